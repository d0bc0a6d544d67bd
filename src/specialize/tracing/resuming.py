"""What a trace that was begun before must have in common with the one that is asked for. Importing this needs no torch.

The options are compared in `specialize.trace.writer`. A model and a corpus are compared by digests, so that it does not
matter how their paths are written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specialize.addresses import is_elsewhere
from specialize.corpus import Corpus
from specialize.errors import CorpusError, TraceError
from specialize.events import SILENT, Reporter
from specialize.trace import RouterSpec
from specialize.trace.parts import part_of
from specialize.trace.verified import list_files, verify_ahead

_MEASURED = ("annotations", "syntax", "topics", "routing", "vocabulary", "probe", "compare", "report")


def check_corpus(corpus: Corpus, run: Path, manifest: Mapping[str, Any]) -> bool:
    """Return whether a corpus has the documents of the trace in a run folder, and more after them.

    Args:
        corpus: read once to the end.
        run: the run folder.
        manifest: of the trace; empty if there is none yet.

    Raises:
        CorpusError: the trace was begun with other documents, or with another column of groups; or it is a part, which
            cannot be extended.
    """
    before = manifest.get("corpus")
    if before is None:
        return False
    if before.get("group") != corpus.group:  # the trace would keep its own, and intervals would rest on it
        theirs, ours = (repr(column) if column else "no column" for column in (before.get("group"), corpus.group))
        raise CorpusError(
            f"{corpus.source}: expected documents that belong together by {theirs}, as in the trace in {run}, got "
            f"{ours}; choose another folder"
        )
    if before.get("digest") == corpus.digest:
        return False
    held = before.get("documents") or 0
    if corpus.num_documents < held:
        raise CorpusError(
            f"{corpus.source}: expected at least the {held:,} documents that the trace in {run} was begun with, got "
            f"{corpus.num_documents:,}; choose another folder"
        )
    if not 0 < held < corpus.num_documents or corpus.digest_of_first(held) != before.get("digest"):
        raise CorpusError(
            f"{corpus.source}: expected the documents that the trace in {run} was begun with, and any others after "
            "them, got others; choose another folder"
        )
    part = part_of(manifest)
    if part is not None:  # the shards of its other parts would be others, too
        raise CorpusError(
            f"{corpus.source}: expected the {held:,} documents that {part} in {run} was begun with, got "
            f"{corpus.num_documents:,}; merge the parts, then extend the whole trace"
        )
    return True


def check_files(run: Path, manifest: Mapping[str, Any], reporter: Reporter = SILENT) -> None:
    """Compare the files of a trace with the checksums of its manifest.

    Raises:
        TraceError: a file is missing or damaged.
    """
    # what a store alone has is compared when it is read: a trace is resumed without downloading it
    files = [each for each in list_files(run, manifest, "documents", "tokens", "routing") if not is_elsewhere(each[0])]
    if not files:
        return
    with reporter.progress("checking the trace", "files") as update:
        for done, _ in enumerate(verify_ahead(files), 1):
            update(done, len(files))


def check_routers(routers: Sequence[RouterSpec], run: Path, manifest: Mapping[str, Any]) -> None:
    """Raise TraceError if the shards of a trace were written with other routers."""
    stored = [RouterSpec(**entry) for entry in manifest["routers"]] if manifest["shards"] else []
    if stored and [_identity(spec) for spec in stored] != [_identity(spec) for spec in routers]:
        raise TraceError(
            f"{run}: expected the {len(stored)} routers that the trace was begun with, found others ({len(routers)}); "
            "choose another folder"
        )


def describe_extension(run: Path, manifest: Mapping[str, Any], documents: int) -> list[str]:
    """Return what a user should know about a trace that gets more documents, one line each."""
    held = manifest["corpus"]["documents"]
    notes = [f"{run}: extending the trace from {held:,} to {documents:,} documents"]
    stale = [name for name in _MEASURED if (run / name).is_dir()]
    if stale:
        notes.append(
            f"note: {', '.join(stale)} in {run} {'is' if len(stale) == 1 else 'are'} of the first {held:,} documents: "
            "annotate and measure again"
        )
    return notes


def list_earlier(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is recorded of the earlier states of a trace that gets more documents."""
    how = {key: manifest.get(key) for key in ("command", "versions")}
    return [*manifest.get("extended_from", []), {"documents": manifest["corpus"]["documents"], **how}]


def _identity(spec: RouterSpec) -> tuple[Any, ...]:
    return spec.routing, spec.draw, spec.name, spec.layer, spec.num_experts, spec.top_k, spec.stack
