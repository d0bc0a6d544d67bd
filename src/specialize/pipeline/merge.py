"""The parts of a trace, joined."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.events import SILENT, Reporter
from specialize.pipeline.report import list_runs
from specialize.remote.places import at_addresses

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace


@at_addresses(runs="read", run="written")
def merge(
    runs: "Sequence[str | PathLike[str] | RoutingTrace]",
    run: str | PathLike[str],
    *,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> "RoutingTrace":
    """Join the parts of a trace, as `specialize.trace_corpus` makes them with `shard`, into the whole trace.

    The files are those of a trace that was made at once, byte for byte. They are compared with their checksums; on one
    file system they are not copied but get a second name, so that the parts can be removed and no space is taken.

    Args:
        runs: run folders of all parts, in any order.
        run: the run folder of the whole trace, new or empty. It appears when it is complete.
        command: the command line, for the manifest.
        reporter: receives the progress, and a note if the parts were traced in different ways that are allowed.

    Returns:
        The whole trace.

    Raises:
        TraceError: a part is missing, unfinished, damaged or given twice, or the folders hold other things than parts
            of one trace.
        OutputError: `run` is not empty, or cannot be written.
    """
    from specialize.tracing.merging import merge_parts

    return merge_parts(list_runs(runs), Path(run), command=command, reporter=reporter)
