"""Curves over training in a run folder: a table for each snapshot, and the list of the snapshots that are complete.

    RUN/training/snapshots.json        steps in order, with the SHA-256 of their files, and the step of the end
    RUN/training/step-NNNNNNNN.parquet result rows of a snapshot
    RUN/training/step-NNNNNNNN.arrow   its experts, of which saturation is measured
    RUN/training/saturation.parquet    saturation of every snapshot against the end, with the column step
    RUN/training/curves.csv            all rows together, once training has ended

A snapshot is part of the curves once it is in the list, which is written last. The manifest of the run names the
snapshot whose routing its trace has, which ties the list to the run.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specialize.errors import MeasurementError, first_line
from specialize.manifest import sha256_of, write_json
from specialize.measure.results.files import as_results, read_with_origin, write_table
from specialize.measure.results.schema import RESULT_COLUMNS
from specialize.measure.results.stored import store_table
from specialize.text import clean_text
from specialize.trace.manifest import read_manifest

FOLDER = "training"
STEP = "step"
OF_TRACE = "training_snapshot"  # the manifest's entry: SHA-256 of the experts of the snapshot that the trace has
_INDEX, _SATURATION, _CURVES = "snapshots.json", "saturation.parquet", "curves.csv"
_TEXT_COLUMNS = ("run", "router", "label_set", "label")
_SHA256 = "^[0-9a-f]{64}$"
_AGAIN = "delete the folder, or train into another run folder"


class Snapshot(BaseModel):
    """A snapshot that is complete: its step, and the SHA-256 (hexadecimal) of the files of its experts and rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    step: int = Field(ge=0)
    experts: str = Field(pattern=_SHA256)
    rows: str = Field(pattern=_SHA256)


class Snapshots(BaseModel):
    """The list of the snapshots, in the order of their steps.

    If training has ended, `end` is its last step, and `saturation` the SHA-256 of the file of saturation against it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    format: Literal["specialize-training"] = "specialize-training"
    version: Literal[1] = 1
    snapshots: list[Snapshot] = []
    end: int | None = None
    saturation: str | None = Field(default=None, pattern=_SHA256)

    @property
    def steps(self) -> list[int]:
        """The steps, ascending."""
        return [snapshot.step for snapshot in self.snapshots]

    @property
    def has_ended(self) -> bool:
        """Whether the last snapshot is that of the end of training."""
        return self.end is not None and self.steps[-1:] == [self.end]


def snapshot_path(run: Path, step: int, suffix: str) -> Path:
    """Return the path of a file of a snapshot: of its rows (``parquet``) or of its experts (``arrow``)."""
    return run / FOLDER / f"step-{step:08d}.{suffix}"


def read_snapshots(run: Path) -> Snapshots:
    """Read the list of the snapshots of a run; it is empty where the run has none.

    Raises:
        MeasurementError: the list is damaged.
    """
    path = run / FOLDER / _INDEX
    if not path.exists():
        return Snapshots()
    try:
        found = Snapshots.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = clean_text(first_line(error))
        raise MeasurementError(f"{path}: expected the snapshots of a training, got: {reason}; {_AGAIN}") from None
    if found.steps != sorted(set(found.steps)):
        raise MeasurementError(f"{path}: expected ascending steps, got others; {_AGAIN}")
    return found


def write_snapshots(run: Path, snapshots: Snapshots) -> None:
    """Write the list of the snapshots, whole or not at all."""
    write_json(run / FOLDER / _INDEX, json.loads(snapshots.model_dump_json()))


def write_snapshot(run: Path, step: int, rows: pd.DataFrame) -> str:
    """Write the result rows of a snapshot, before it is added to the list; return the SHA-256 of the file."""
    path = snapshot_path(run, step, "parquet")
    store_table(as_results(rows), path)
    return sha256_of(path)


def write_saturation(run: Path, rows: pd.DataFrame) -> str:
    """Write the saturation against the end, result rows with the additional column step; and all rows as CSV.

    Returns:
        The SHA-256 of the file of saturation.
    """
    path = run / FOLDER / _SATURATION
    store_table(rows, path)
    checksum = sha256_of(path)
    curves = _read_all(run, read_snapshots(run), saturation=checksum)
    write_table(curves, run / FOLDER / _CURVES, text_columns=_TEXT_COLUMNS)
    return checksum


def read_curves(run: Path) -> pd.DataFrame | None:
    """Read the curves over training of a run.

    Args:
        run: the run folder.

    Returns:
        A frame with the columns of `RESULT_COLUMNS` and ``step`` (int64), in the order of the steps; None if there are
        no snapshots. Saturation against the end is among them once training has ended.

    Raises:
        MeasurementError: a file is missing or damaged, or the snapshots are of another training than the run's trace.
    """
    found = read_snapshots(run)
    if not found.snapshots:
        return None
    if read_manifest(run, complete=False).get(OF_TRACE) not in {snapshot.experts for snapshot in found.snapshots}:
        raise MeasurementError(
            f"{run / FOLDER}: expected the snapshots of the training whose routing the trace has, got those of another "
            f"one; {_AGAIN}"
        )
    return _read_all(run, found, saturation=found.saturation if found.has_ended else None)


def _read_all(run: Path, found: Snapshots, *, saturation: str | None) -> pd.DataFrame:
    """Return the rows of all snapshots, and of the saturation against the end if its checksum is given."""
    frames = [
        _read(snapshot_path(run, each.step, "parquet"), each.rows).assign(step=each.step) for each in found.snapshots
    ]
    if saturation is not None:
        frames.append(_read(run / FOLDER / _SATURATION, saturation, (*RESULT_COLUMNS, STEP)))
    curves = pd.concat(frames, ignore_index=True).sort_values(STEP, kind="stable", ignore_index=True)
    return curves.astype({STEP: "int64"})


def _read(path: Path, checksum: str, columns: Sequence[str] = tuple(RESULT_COLUMNS)) -> pd.DataFrame:
    if not path.is_file() or sha256_of(path) != checksum:
        got = "another file" if path.is_file() else "none"
        raise MeasurementError(f"{path}: expected the rows that {_INDEX} lists, got {got}; {_AGAIN}")
    frame, _ = read_with_origin(path)
    missing = [column for column in columns if column not in frame]
    if missing:
        raise MeasurementError(f"{path}: expected the rows of a snapshot, got no column {missing[0]!r}; {_AGAIN}")
    steps = {STEP: frame[STEP]} if STEP in columns else {}
    return as_results(frame.drop(columns=list(steps))).assign(**steps)
