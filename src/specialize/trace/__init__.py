"""The routing trace on disk: schema, writer, reader, validation; importers and export in its modules."""

from specialize.trace.reader import RoutingTrace, open_trace
from specialize.trace.schema import NO_EXPERT, RouterSpec
from specialize.trace.validate import validate_trace
from specialize.trace.writer import Shard, TraceWriter

__all__ = ["NO_EXPERT", "RouterSpec", "RoutingTrace", "Shard", "TraceWriter", "open_trace", "validate_trace"]
