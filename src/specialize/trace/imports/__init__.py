"""Import of routing that other tools recorded into a run folder."""

from specialize.trace.imports.formats import FORMATS
from specialize.trace.imports.run import import_trace

__all__ = ["FORMATS", "import_trace"]
