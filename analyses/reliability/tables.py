"""The tables of the matrix, from the stored outcomes."""

import json
import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd
from analyses.reliability.injection import Injection
from analyses.reliability.judge import BAD, GOOD, NOT_RUN

_ORDER = (*GOOD, *BAD, NOT_RUN)


def write_tables(stored: Path, injections: Collection[Injection], folder: Path) -> str:
    """Write matrix.csv (a row for each command and fault) and messages.csv (what was said); return a summary.

    Args:
        stored: outcomes, a JSON object a line.
        injections: which of them count.
        folder: of the tables.
    """
    wanted = set(injections)
    rows = [json.loads(line) for line in stored.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if Injection(row["stage"], row["fault"], row["seed"]) in wanted]
    frame = pd.DataFrame(rows).drop_duplicates(["stage", "fault", "seed"], keep="last")
    folder.mkdir(parents=True, exist_ok=True)
    _count(frame, ["stage", "fault"]).to_csv(folder / "matrix.csv", index=False)
    messages = frame[frame["detail"] != ""].copy()
    messages["line"] = messages["detail"].map(lambda line: re.sub(r"[\s\x00-\x1f]+", " ", line)[:400])
    messages["kind"] = messages["line"].map(lambda line: re.sub(r"[\d.]+", "#", line))
    messages = messages.sort_values(["stage", "fault", "seed"]).drop_duplicates(["stage", "outcome", "kind"])
    messages[["stage", "outcome", "fault", "seed", "target", "line"]].to_csv(folder / "messages.csv", index=False)
    summary = _count(frame, ["stage"])
    total = summary.sum(numeric_only=True)
    return pd.concat([summary, pd.DataFrame([{"stage": "all", **total.astype(int)}])]).to_string(index=False)


def _count(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    counts = pd.crosstab([frame[name] for name in by], frame["outcome"]).reindex(columns=_ORDER, fill_value=0)
    counts.insert(0, "injections", counts.sum(axis=1))
    return counts.reset_index()
