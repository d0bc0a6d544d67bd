"""Routing that other tools recorded, brought into a run folder."""

from specialize.trace.imports.formats import FORMATS
from specialize.trace.imports.run import ImportProgress, import_trace
from specialize.trace.imports.source import ImportOptions

__all__ = ["FORMATS", "ImportOptions", "ImportProgress", "import_trace"]
