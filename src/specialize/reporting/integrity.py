"""What a report rests on: whether the data are whole, and how far the intervals can be trusted."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from specialize.addresses import show
from specialize.measure.base.shortage import read_shortage
from specialize.names import shorten
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table, facts_table, flatten
from specialize.text import clean_text, list_names

# entries of the provenance of the tags that the page shows
_TAGGING = (
    *("tool", "spacy", "pipeline", "pipeline_version", "languages", "pieces", "language_source", "detector"),
    *("documents_by_language", "documents_uncertain", "documents_without_pipeline"),
)
_NOMINAL = "no reservation"
_MARKED = re.compile(r"\(.*?\b((?:undercovers|biased)\b[^)]*)\)|(cautious)")


def describe_provenance(run: RunResults, *, is_compared: bool) -> dict[str, Any]:
    """Return the name of a run, the table of `integrity_table`, and one of all that its manifest records."""
    shown = {"model", "routers", "layers", "shards", "files", "checksums", "notes"}
    facts = [("folder", show(run.path)), ("SHA-256 of manifest.json", run.digest)]
    facts += flatten({key: value for key, value in run.manifest.items() if key not in shown})
    facts += flatten({"tagging": {key: run.tagging.get(key) for key in _TAGGING}})
    return {
        "name": run.label,
        "integrity": integrity_table(run, is_compared=is_compared),
        "facts": facts_table(f"{run.label}: trace", facts),
    }


def integrity_table(run: RunResults, *, is_compared: bool) -> Table:
    """Return what is known of the data of a run: files, weights, results, documents and the notes of an import.

    Args:
        run: what was measured.
        is_compared: whether all files of the trace were read, and so compared with their checksums.
    """
    facts = [
        ("files of the trace", _tell_files(run, is_compared)),
        ("results", f"not of a named trace: {run.unverified}" if run.unverified else "all name this trace"),
        ("weights of the model", _tell_weights(run)),
        *_tell_documents(run),
        *(("noted at import", str(note)) for note in run.manifest.get("notes") or ()),
    ]
    body = [[Cell(name, "text"), Cell(shorten(value, width=300), "text wide")] for name, value in facts]
    return Table(f"{run.label}: data integrity", [], body)


def _tell_files(run: RunResults, is_compared: bool) -> str:
    shards = [shard for shard in run.manifest.get("shards") or () if isinstance(shard, dict)]
    count = sum(len(shard.get("files") or ()) for shard in shards) + bool(run.manifest.get("documents"))
    files = f"{count:,} files with checksums"
    if not (run.path / "trace").is_dir():
        return f"{files}, not there: the results were copied without their trace"
    if is_compared:
        return f"{files}, compared while this page was made"
    return f"{files}, not compared while this page was made; specialize validate does"


def _tell_weights(run: RunResults) -> str:
    model = run.manifest.get("model")
    facts: dict[str, Any] = model if isinstance(model, dict) else {}
    allowed = [
        f"{facts[name]['number']:,} {what}"
        for name, what in (("missing_weights", "missing, which were random"), ("unused_weights", "unused"))
        if isinstance(facts.get(name), dict)
    ]
    if allowed:
        return f"not those of the checkpoint alone: {list_names(allowed)}"
    if run.manifest.get("settings", {}).get("weights_digest"):
        return "all in the checkpoint, none unused"
    return "not known: the model was not loaded here"


def _tell_documents(run: RunResults) -> Iterator[tuple[str, str]]:
    corpus = run.manifest.get("corpus")
    for name, what in (("skipped_empty", "empty and left out"), ("repeated", "with the text of an earlier one")):
        count = corpus.get(name) if isinstance(corpus, dict) else None
        if isinstance(count, int) and count:
            yield "documents", f"{count:,} {what}"


def interval_table(run: RunResults) -> Table | None:
    """Return how many intervals of a run carry a reservation, by reservation; None where nothing was measured."""
    frames = [*run.frames.values(), *run.ablation.values(), *run.others.values()]
    frames += [] if run.routing is None else [run.routing]
    counts: Counter[tuple[str, str]] = Counter()
    for frame in frames:
        if "ci_kind" in frame:
            kinds = frame.loc[frame["value"].notna() & frame["ci_kind"].notna(), "ci_kind"]
            for kind, count in kinds.value_counts().items():
                counts[_judge_kind(str(kind))] += int(count)
    if not counts:
        return None
    whole = sum(counts.values())
    head = [
        Cell("intervals", "text"),
        Cell("reservation", "text wide"),
        Cell("estimates", "number"),
        Cell("%", "number"),
    ]
    body = [
        [
            Cell(shown, "text"),
            Cell(reason, "text wide"),
            Cell(f"{count:,}", "number"),
            Cell(f"{100 * count / whole:.1f}", "number"),
        ]
        for (shown, reason), count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return Table(f"{run.label}: estimates by what their intervals are worth", [head], body)


def _judge_kind(kind: str) -> tuple[str, str]:
    """Return whether the interval of a kind is shown, and the reservation that its description makes."""
    if read_shortage(kind):
        return "not shown", "too little data"
    if kind.startswith("none"):
        return "none", clean_text(kind.removeprefix("none").removeprefix(": "))
    found = _MARKED.search(kind)
    return "shown", (found[1] or found[2]) if found else _NOMINAL
