"""The report of a run: an HTML page with its figures, and the same numbers for the terminal."""

from specialize.report.page import write_report
from specialize.report.terminal import summary_records, summary_table, summary_tables

__all__ = ["summary_records", "summary_table", "summary_tables", "write_report"]
