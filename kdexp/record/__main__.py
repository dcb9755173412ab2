"""`python -m kdexp.record`."""

from kdexp.command.record import main

main()
