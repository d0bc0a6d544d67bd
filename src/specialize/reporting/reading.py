"""Reading what a report is about: the manifests of runs and their result files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from specialize.errors import MeasurementError, TraceError
from specialize.measure.results.files import read_frame, rename_routing
from specialize.plot.frames import complete_frame
from specialize.reporting.router_kinds import split_kinds
from specialize.reporting.runs import GOLD, SYNTAX, TOPICS, RunResults
from specialize.text import clean_text
from specialize.trace.files import sha256_of
from specialize.trace.manifest import read_manifest

_TABLES = ("topic_info", "topic_quality", "top_tokens")  # not in the result schema
_TOP_TOKENS = ("routing", "layer", "router", "token", "expert", "rank", "text", "share")
_TOP_TOKEN_NUMBERS = ("layer", "expert", "rank", "share")


def read_runs(paths: Sequence[Path]) -> list[RunResults]:
    """Read the manifests and results of the run folders `paths`.

    Runs of the same name are distinguished by their parent folder, else by number. Where layers have several routers,
    each kind of router is a run of its own.

    Raises:
        TraceError: a folder holds no complete trace, its manifest is damaged, or no folder was given.
        MeasurementError: a result file is damaged or not in the result schema.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise TraceError("expected at least one run folder, got none; name the folders that `specialize trace` wrote")
    runs = [part for path in paths for part in split_kinds(_read_run(path))]
    names = _distinct([(run.name, run.path) for run in runs])
    return [_rename(run, name) for run, name in zip(runs, names, strict=True)]


def _read_run(path: Path) -> RunResults:
    manifest, digest = read_manifest(path), sha256_of(path / "manifest.json")
    syntax = _by_label_set(_read_folder(path / "syntax"))
    topics = _by_label_set(_read_folder(path / "topics"))
    frames = [*syntax.values(), *topics.values()]
    given = next((str(frame["run"].iloc[0]) for frame in frames if len(frame) and "run" in frame.columns), "")
    name = given if given not in ("", "nan", "run") else path.resolve().name
    return RunResults(
        name=clean_text(name) or "run",
        path=path,
        manifest=manifest,
        digest=digest,
        syntax={key: syntax[key] for key in sorted(syntax, key=lambda key: (key != SYNTAX, key != GOLD, key))},
        taggers=_by_label_set(_read_folder(path / "syntax" / "tagger")),
        topics={key: topics[key] for key in sorted(topics, key=lambda key: (key != TOPICS, key))},
        topic_info=_read_table(path / "topics" / "topic_info.csv", text=True),
        topic_quality=_read_quality(path / "topics" / "topic_quality.csv"),
        routing=_read_folder(path / "routing").get("routing"),
        top_tokens=_read_top_tokens(path / "vocabulary" / "top_tokens.csv"),
        others={
            folder if folder == stem else f"{folder}-{stem}": frame
            for folder in ("vocabulary", "probe", "compare")
            for stem, frame in _read_folder(path / folder).items()
        },
    )


def _read_folder(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the result frames in `folder` by file name; Parquet wins over a CSV of the same name."""
    frames: dict[str, pd.DataFrame] = {}
    files = {path.stem: path for suffix in ("csv", "parquet") for path in sorted(folder.glob(f"*.{suffix}"))}
    for stem, path in sorted(files.items()):
        if stem in _TABLES:
            continue
        frame = read_frame(path)
        try:
            frame = rename_routing(complete_frame(frame))
        except MeasurementError as error:
            reason = clean_text(error)
            raise MeasurementError(f"{path}: expected a result frame, got: {reason}; measure the run again") from None
        if not frame.empty:
            frames[stem] = frame
    return frames


def _by_label_set(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Name frames by the label set they are of, which is the file's name where they do not say."""
    named = {}
    for stem, frame in frames.items():
        frame["label_set"] = frame["label_set"].astype(object).where(frame["label_set"].notna(), stem)
        named[str(frame["label_set"].iloc[0])] = frame
    return named


def _read_table(path: Path, *, text: bool) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False) if text else pd.read_csv(path)
    except Exception as error:  # the parser raises anything where bytes are wrong
        raise MeasurementError(
            f"{path}: expected a CSV table, got: {clean_text(error)}; measure the run again"
        ) from None


def _read_top_tokens(path: Path) -> pd.DataFrame | None:
    table = _read_table(path, text=False)
    if table is None:
        return None
    again = "run `specialize vocabulary` again"
    for name in _TOP_TOKENS:
        if name not in table:
            raise MeasurementError(f"{path}: expected the columns {', '.join(_TOP_TOKENS)}, got no {name!r}; {again}")
    for name in _TOP_TOKEN_NUMBERS:
        if not is_numeric_dtype(table[name]):
            raise MeasurementError(f"{path}: expected numbers in the column {name!r}, got others; {again}")
    return rename_routing(table)


def _read_quality(path: Path) -> pd.DataFrame | None:
    table = _read_table(path, text=False)
    if table is None:
        return None
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
        routing=mark(run.routing),
        top_tokens=mark(run.top_tokens),
    )
