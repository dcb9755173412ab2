"""`python -m kdexp.evaluate`."""

from kdexp.command.evaluate import main

main()
