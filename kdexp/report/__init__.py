"""Turns records into what a careful author would publish, without torch. Also for notebooks: `load` records, `summarize` them,
`print_table`."""

from kdexp.report.comparing.table import summarize
from kdexp.report.reading.records import epochs, load
from kdexp.report.showing.output import print_table

__all__ = ["epochs", "load", "print_table", "summarize"]
