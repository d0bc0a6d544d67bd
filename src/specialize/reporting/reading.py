"""Reading what a report is about: the manifests of runs and their result files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from specialize.annotators.store import read_provenance
from specialize.errors import MeasurementError, TraceError
from specialize.events import SILENT, Reporter
from specialize.manifest import sha256_of
from specialize.measure.results.curves import read_curves
from specialize.measure.results.files import rename_routing
from specialize.reporting.result_files import ResultFiles, list_names
from specialize.reporting.router_kinds import split_kinds
from specialize.reporting.runs import GOLD, SYNTAX, TOPICS, RunResults
from specialize.text import clean_text
from specialize.trace import open_trace
from specialize.trace.manifest import digest_trace

_TOP_TOKENS = ("routing", "layer", "router", "token", "expert", "rank", "text", "share")
_TOP_TOKEN_NUMBERS = ("layer", "expert", "rank", "share")


def read_runs(
    paths: Sequence[Path],
    *,
    leave_out: Callable[[str], object] | None = None,
    reporter: Reporter = SILENT,
) -> list[RunResults]:
    """Read the manifests and results of the run folders `paths`.

    Runs of the same name are distinguished by their parent folder, else by number. Where layers have several routers,
    each kind of router is a run of its own.

    Args:
        paths: the run folders.
        leave_out: receives the reason for each result file that is left out because it is damaged or of another trace;
            None if that is an error.
        reporter: receives the names of result files that do not name their trace.

    Raises:
        TraceError: a folder holds no complete trace, its manifest is damaged, or no folder was given.
        MeasurementError: a result file is damaged, not in the result schema, or of another trace.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise TraceError("expected at least one run folder, got none; name the folders that `specialize trace` wrote")
    read = [_read_run(path, leave_out) for path in paths]
    folders = [run.path.resolve().name for run, _ in read]
    digests = {
        name: digest_trace(run.manifest)
        for name, (run, _) in zip(folders, read, strict=True)
        if folders.count(name) == 1
    }
    for run, files in read:
        files.check_trace(digests)
        if run.unverified:
            reporter.say(f"{run.path}: results that do not name their trace, and are not checked: {run.unverified}")
    parts = [part for run, _ in read for part in split_kinds(run)]
    names = _distinct([(run.name, run.path) for run in parts])
    return [_rename(run, name) for run, name in zip(parts, names, strict=True)]


def _read_run(path: Path, leave_out: Callable[[str], object] | None) -> tuple[RunResults, ResultFiles]:
    trace, digest = open_trace(path), sha256_of(path / "manifest.json")
    files = ResultFiles(path, trace.digest, leave_out=leave_out)
    syntax, topics = files.read_label_sets("syntax"), files.read_label_sets("topics")
    frames = [*syntax.values(), *topics.values()]
    given = next((str(frame["run"].iloc[0]) for frame in frames if len(frame) and "run" in frame.columns), "")
    name = given if given not in ("", "nan", "run") else path.resolve().name
    run = RunResults(
        name=clean_text(name) or "run",
        path=path,
        manifest=trace.manifest,
        digest=digest,
        syntax={key: syntax[key] for key in sorted(syntax, key=lambda key: (key != SYNTAX, key != GOLD, key))},
        taggers=files.read_label_sets("syntax/tagger"),
        topics={key: topics[key] for key in sorted(topics, key=lambda key: (key != TOPICS, key))},
        tagging=read_provenance(trace, SYNTAX),
        topic_info=files.read_table("topics", "topic_info", _check_info),
        topic_quality=files.read_table("topics", "topic_quality", _check_quality),
        routing=files.read_folder("routing").get("routing"),
        top_tokens=files.read_table("vocabulary", "top_tokens", _check_top_tokens),
        ablation=files.read_folder("ablation"),
        training=_read_training(path, leave_out),
        others={
            folder if folder == stem else f"{folder}-{stem}": frame
            for folder in ("vocabulary", "probe", "compare")
            for stem, frame in files.read_folder(folder).items()
        },
    )
    return replace(run, unverified=list_names(files.unverified)), files


def _read_training(path: Path, leave_out: Callable[[str], object] | None) -> pd.DataFrame | None:
    """Read the curves over training; they are of the sample in the trace, at other steps than the trace's own."""
    try:
        return read_curves(path)
    except MeasurementError as error:
        if leave_out is None:
            raise
        leave_out(f"left out: {error}")
        return None


def _check_info(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    del path
    return table.map(lambda value: "" if pd.isna(value) else str(value))


def _check_top_tokens(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    again = "run `specialize vocabulary` again"
    for name in _TOP_TOKENS:
        if name not in table:
            raise MeasurementError(f"{path}: expected the columns {', '.join(_TOP_TOKENS)}, got no {name!r}; {again}")
    for name in _TOP_TOKEN_NUMBERS:
        if not is_numeric_dtype(table[name]):
            raise MeasurementError(f"{path}: expected numbers in the column {name!r}, got others; {again}")
    return rename_routing(table)


def _check_quality(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    if not {"quantity", "value"} <= set(table.columns):
        raise MeasurementError(
            f"{path}: expected the columns quantity and value, got {', '.join(map(str, table.columns))}; "
            "fit the topics again"
        )
    table["value"] = pd.to_numeric(table["value"], errors="coerce")
    return table


def _distinct(runs: list[tuple[str, Path]]) -> list[str]:
    names = [name for name, _ in runs]
    if len(set(names)) < len(names):
        names = [
            clean_text(f"{path.resolve().parent.name}/{name}") if names.count(name) > 1 else name for name, path in runs
        ]
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def _rename(run: RunResults, name: str) -> RunResults:
    renamed = replace(run, name=name)

    def mark(frame: pd.DataFrame | None) -> pd.DataFrame | None:
        return None if frame is None else frame.assign(run=renamed.label)

    return replace(
        renamed,
        syntax={key: frame.assign(run=renamed.label) for key, frame in run.syntax.items()},
        topics={key: frame.assign(run=renamed.label) for key, frame in run.topics.items()},
        ablation={key: frame.assign(run=renamed.label) for key, frame in run.ablation.items()},
        routing=mark(run.routing),
        training=mark(run.training),
        top_tokens=mark(run.top_tokens),
    )
