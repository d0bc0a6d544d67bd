"""The report of a run: a page with its figures, and the same numbers for programs."""

from specialize.reporting.page import write_report
from specialize.reporting.summary import Summary, summarise

__all__ = ["Summary", "summarise", "write_report"]
