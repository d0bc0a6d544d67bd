"""A trace on workers: each makes a part, and the parts are merged."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.events import Reporter, Update
from specialize.pipeline.trace_job import TraceJob
from specialize.scale.worker import Progress, Said

if TYPE_CHECKING:
    from specialize.scale.ray_engine import RayEngine
    from specialize.trace import RoutingTrace
    from specialize.trace.parts import Part


def trace_on_workers(
    job: TraceJob, run: Path, manifest: Mapping[str, Any] | None, *, engine: "RayEngine", reporter: Reporter
) -> "RoutingTrace":
    """Make a trace on workers, with the bytes that one process would have written.

    A new trace is divided into as many parts as there are workers; parts that were begun are resumed, however many
    there are. A trace of which one process has written shards is not divided: one worker resumes, extends or repairs
    it.

    Args:
        job: what the trace is made from.
        run: the run folder.
        manifest: of the trace that is in the run folder; None if there is none.
        engine: the workers.
        reporter: receives the progress of all workers, and of merging.

    Raises:
        SpecializeError: that of a worker, as in one process.
        EngineError: workers end again and again.
        TraceError: there are parts of traces that were divided in different ways.
    """
    from specialize.trace import open_trace
    from specialize.tracing.launch import part_folder
    from specialize.tracing.merging import merge_parts
    from specialize.tracing.part_folders import choose_parts, make_room, remove_merged

    job = replace(job, registered=_list_registered())
    is_new = make_room(run)
    parts: list[Part | None] = [*choose_parts(run, engine.division.workers)] if is_new else [None]
    if not is_new and job.is_more_than(manifest):
        reporter.say(f"note: {run}: the trace was begun by one process, and is not divided: one worker continues it")
    folders = [run if part is None else part_folder(run, part) for part in parts]

    def make(place: int, reporter: Reporter) -> None:
        job.make(folders[place], part=parts[place], reporter=reporter)

    with reporter.progress("tracing", "documents") as update:
        board = _Board(reporter, update, run, folders, job.documents.num_documents)
        for _ in engine.map_reporting(make, range(len(parts)), board.receive):
            pass
    if is_new:
        merge_parts(folders, run, command=job.command, reporter=reporter)
    remove_merged(run)
    return open_trace(run)


class _Board:
    """Shows what the workers of one trace report as if it were one process.

    Args:
        reporter: receives messages, each once.
        update: shows the documents that are done in all.
        run: the run folder.
        folders: that each worker writes to.
        documents: number of documents.
    """

    def __init__(self, reporter: Reporter, update: Update, run: Path, folders: list[Path], documents: int) -> None:
        self._reporter, self._update, self._run = reporter, update, run
        self._folders, self._documents = folders, documents
        self._done = [0] * len(folders)
        self._said: set[str] = set()

    def receive(self, place: int, message: Said | Progress) -> None:
        """Show a message of a worker."""
        if isinstance(message, Progress):
            if message.title == "tracing":
                self._done[place] = message.done  # of all documents: those of other parts are passed over
                self._update(sum(self._done) // len(self._done), self._documents)
            return
        text = message.text.replace(str(self._folders[place]), str(self._run))
        # what only the first one says is of its own part: an estimate, that it is complete
        if text not in self._said and (place == 0 or text.startswith(("note:", "warning:"))):
            self._said.add(text)
            self._reporter.say(text)


def _list_registered() -> Mapping[Any, Any]:
    """Return the kinds of layers that this process has registered, without importing torch for it."""
    if "specialize.capture.registry" not in sys.modules:
        return {}
    from specialize.capture.registry import list_registered

    return list_registered()
