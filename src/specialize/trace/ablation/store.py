"""What switching off experts changed: files of a run folder, one for each condition.

    RUN/ablation/plan.json          the model, the documents that were run again, the sets and rankings asked for
    RUN/ablation/baseline.arrow     loss of the next token with all experts, float32 [tokens], nats
    RUN/ablation/saliency.arrow     of each expert: mean norm of its output, before and after the gate weight
    RUN/ablation/changes/*.arrow    rise of the loss under one condition, float16 [tokens], nats

Tokens are those of the documents that were run again, in the order of the trace; a token without a next one has NaN.
Each file is written whole or not at all, names in its metadata what it holds and for which plan, and has a checksum.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.lock import locked
from specialize.manifest import digest_of, write_json
from specialize.trace.ablation.conditions import Condition, LeadingSet, Removal
from specialize.trace.ablation.files import damaged, digest_array, digest_table, read_table
from specialize.trace.files import write_arrow

FOLDER = "ablation"
FORMAT, VERSION = "specialize.ablation", 1
# What a repeated call must have in common with the plan, since changes are differences of losses of the same passes.
IDENTITY = ("weights_digest", "tokenizer_digest", "text_digest", "documents", "dtype", "device", "batch_tokens")
_CALLED = {
    "weights_digest": "model",
    "tokenizer_digest": "tokenizer",
    "text_digest": "trace",
    "documents": "documents",
    "dtype": "precision (--dtype)",
    "device": "device",
    "batch_tokens": "batch size (--batch-tokens)",
}


class AblationStore:
    """The ablation of a run folder.

    Args:
        run: the run folder.

    Raises:
        TraceError: the plan is damaged, or of another version.
    """

    def __init__(self, run: Path) -> None:
        self.folder = Path(run) / FOLDER
        self.plan = _read_plan(self.folder / "plan.json")

    @property
    def exists(self) -> bool:
        """Whether experts of the run were switched off."""
        return bool(self.plan)

    @property
    def digest(self) -> str:
        """Digest of what all files have in common."""
        return digest_of({name: self.plan[name] for name in IDENTITY})

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """Rows of the documents that were run again, increasing, int64 [documents]."""
        return np.array(self.plan["documents"], dtype=np.int64)

    @property
    def sets(self) -> tuple[LeadingSet, ...]:
        """The leading sets that were asked for."""
        return tuple(LeadingSet.read(each) for each in self.plan["sets"])

    @property
    def removals(self) -> tuple[Removal, ...]:
        """The rankings that were asked for, a number of experts each."""
        return tuple(Removal.read(each) for each in self.plan["removals"])

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Write the plan, or compare it with the plan that is there.

        Args:
            plan: the entries of `IDENTITY`, and whatever else describes the model.

        Raises:
            TraceError: the changes that are there are of other documents, another model, or other batches.
        """
        with self._locked():
            if not self.has_baseline and not any(self.folder.glob("changes/*.arrow")):  # nothing depends on it
                self._write_plan({"format": FORMAT, "version": VERSION, **plan, "sets": [], "removals": []})
                return
            for name in IDENTITY:
                if self.plan.get(name) != plan[name]:
                    raise TraceError(
                        f"{self.folder}: expected the {_CALLED[name]} of the conditions that are there, got other "
                        f"ones: give the same options, or move {self.folder} away"
                    )

    def ask(self, sets: Sequence[LeadingSet], removals: Sequence[Removal]) -> None:
        """Add sets and rankings to the plan; of a label or ranking that is there, the new one takes the place."""
        with self._locked():
            kept = {(each.label_set, each.label): each for each in self.sets}
            kept |= {(each.label_set, each.label): each for each in sets}
            more = {(each.ranking, len(each.experts)): each for each in self.removals}
            more |= {(each.ranking, len(each.experts)): each for each in removals}
            entries = {
                "sets": [asdict(each) for each in kept.values()],
                "removals": [asdict(each) for each in more.values()],
            }
            if json.loads(json.dumps(entries)) != {name: self.plan[name] for name in entries}:
                self._write_plan(self.plan | entries)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the plan, which another process may have changed: it is read anew."""
        with locked(self.folder / ".lock", on_busy=lambda: None):
            self.plan = _read_plan(self.folder / "plan.json")
            yield

    def _write_plan(self, plan: Mapping[str, Any]) -> None:
        write_json(self.folder / "plan.json", plan)
        self.plan = _read_plan(self.folder / "plan.json")

    def holds(self, condition: Condition) -> bool:
        """Return whether the changes of a condition are there."""
        return self._path(condition).is_file()

    def changes(self, condition: Condition) -> NDArray[np.float32]:
        """Read the rise of the loss of the next token under a condition, float32 [tokens], nats.

        Raises:
            TraceError: it is missing or damaged, or of another plan.
        """
        values = self._read(self._path(condition), asdict(condition), "change")
        return values.astype(np.float32)

    def save_changes(self, condition: Condition, changes: NDArray[np.floating]) -> None:
        """Write the changes of a condition, [tokens]; they are stored in half precision."""
        self._write(self._path(condition), asdict(condition), "change", changes.astype(np.float16))

    @property
    def has_baseline(self) -> bool:
        """Whether the losses with all experts are there."""
        return (self.folder / "baseline.arrow").is_file()

    def baseline(self) -> NDArray[np.float32]:
        """Read the loss of the next token with all experts, float32 [tokens], nats."""
        values: NDArray[np.float32] = self._read(self.folder / "baseline.arrow", {}, "loss")
        return values

    def save_baseline(self, losses: NDArray[np.float32]) -> None:
        """Write the losses with all experts, float32 [tokens], nats."""
        self._write(self.folder / "baseline.arrow", {}, "loss", losses)

    def saliency(self) -> pd.DataFrame | None:
        """Read the saliency of each expert, columns router, expert, tokens, saliency, output_norm; None without it."""
        path = self.folder / "saliency.arrow"
        if not path.is_file():
            return None
        table, metadata = read_table(path)
        self._check(path, metadata, {}, digest_table(table))
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def save_saliency(self, saliency: pd.DataFrame) -> None:
        """Write the saliency of each expert, columns router, expert, tokens, saliency, output_norm."""
        table = pa.Table.from_pandas(saliency, preserve_index=False).replace_schema_metadata(None)
        self._write_table(self.folder / "saliency.arrow", table, self._metadata({}, digest_table(table)))

    def _path(self, condition: Condition) -> Path:
        return self.folder / "changes" / f"{condition.key}.arrow"

    def _metadata(self, about: Mapping[str, Any], digest: str) -> dict[str, str]:
        return {
            "format": FORMAT,
            "version": str(VERSION),
            "plan": self.digest,
            "condition": json.dumps(about, sort_keys=True),
            "sha256": digest,
        }

    def _write(self, path: Path, about: Mapping[str, Any], column: str, values: NDArray[Any]) -> None:
        self._write_table(path, pa.table({column: pa.array(values)}), self._metadata(about, digest_array(values)))

    def _write_table(self, path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
        described = table.replace_schema_metadata(dict(metadata))
        write_arrow(path, described.schema, described.to_batches())

    def _read(self, path: Path, about: Mapping[str, Any], column: str) -> NDArray[Any]:
        table, metadata = read_table(path)
        try:
            values = table[column].to_numpy()
        except Exception as error:
            raise damaged(path, error) from None
        self._check(path, metadata, about, digest_array(values))
        return values

    def _check(self, path: Path, metadata: Mapping[str, str], about: Mapping[str, Any], digest: str) -> None:
        expected = self._metadata(about, digest)
        if metadata.get("sha256") != digest:
            raise damaged(path, ValueError("the numbers do not match their checksum"))
        if dict(metadata) != expected:
            raise TraceError(
                f"{path}: expected changes of this plan and condition, got those of another one: remove the file and "
                "run `specialize ablate` again"
            )


def _read_plan(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(plan, dict):
            raise TypeError("no JSON object")
        missing = [name for name in (*IDENTITY, "sets", "removals", "format", "version") if name not in plan]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        for each in plan["sets"]:
            LeadingSet.read(each)
        for each in plan["removals"]:
            Removal.read(each)
        documents = plan["documents"]
        if not documents or any(not isinstance(row, int) or row < 0 for row in documents):
            raise ValueError("documents that are no rows")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise damaged(path, error) from None
    if (plan["format"], plan["version"]) != (FORMAT, VERSION):
        raise TraceError(
            f"{path}: expected {FORMAT} version {VERSION}, got {plan['format']} version {plan['version']}: use the "
            "release that wrote it"
        )
    return plan
