"""The run folder of a training that is watched: the sample as a trace, and the snapshots.

The trace holds the routing of the first snapshot, and once training has ended that of the last.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.addresses import announce
from specialize.annotators.store import save_annotation
from specialize.errors import MeasurementError, TraceError
from specialize.manifest import digest_of, sha256_of, versions
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.results.curves import (
    OF_TRACE,
    STEP,
    Snapshot,
    Snapshots,
    read_snapshots,
    snapshot_path,
    write_saturation,
    write_snapshot,
    write_snapshots,
)
from specialize.measure.runs.snapshots import measure_snapshot, saturation_rows
from specialize.monitoring.sample import Sample
from specialize.trace import RouterSpec, Shard, TraceWriter, open_trace
from specialize.trace.files import read_arrow, write_arrow
from specialize.trace.packing import rows_of
from specialize.tracing.documents import describe_corpus, write_documents
from specialize.tracing.shards import token_columns

Experts = Sequence[NDArray[np.int16]]  # of each router, [tokens, k]


class SnapshotStore:
    """Writes the snapshots of a training to its run folder; an interrupted training is resumed.

    Args:
        run: the run folder.
        sample: what is measured.
        specs: the routers, as the experts of a snapshot list them.
        settings: what else determines the numbers: permutations, num_blocks, seed, control.
        model: name and configuration of the model, for the manifest.

    Raises:
        TraceError: the folder holds something else, or snapshots of another sample or with other settings; or another
            process is writing to it.
    """

    def __init__(
        self,
        run: Path,
        sample: Sample,
        specs: Sequence[RouterSpec],
        *,
        settings: dict[str, Any],
        model: dict[str, Any],
    ) -> None:
        self.run = run
        self.specs = tuple(specs)
        self._sample = sample
        self._settings = settings
        # not the configuration: that of a checkpoint differs in details from that of the model that was saved
        names = ("routing", "name", "layer", "num_experts", "top_k")
        routers = digest_of({"routers": [[getattr(spec, name) for name in names] for spec in specs]})
        held = settings | {"training_sample": sample.digest, "training_routers": routers, "contents": []}
        self._writer = TraceWriter(run, settings=held, provenance={"versions": versions(), "model": model})
        self._stack = ExitStack()
        self._groups: NDArray[np.int64] | None = None
        self._last: tuple[int, Experts] | None = None
        self.snapshots = Snapshots()

    def open(self, first_step: int, *, overwrite: bool) -> None:
        """Lock the folder, and drop what was recorded after the step from which the training is resumed.

        Args:
            first_step: optimizer steps that the training has done.
            overwrite: drop the snapshots of another training that starts again from step 0.

        Raises:
            MeasurementError: the folder has snapshots, and the training starts at step 0.
            TraceError: another process is writing to the folder.
        """
        with ExitStack() as stack:
            stack.enter_context(self._writer)
            self.snapshots = read_snapshots(self.run)
            later = [step for step in self.snapshots.steps if step > first_step]
            if later and not first_step and not overwrite:
                raise MeasurementError(
                    f"{self.run}: expected a new run folder for a training that starts at step 0, got one with "
                    f"snapshots up to step {later[-1]}; choose another folder, resume the training from a checkpoint, "
                    "or overwrite"
                )
            # a training that starts at step 0 has none of them: the first is of the model before it
            dropped = later if first_step else self.snapshots.steps
            if dropped:
                kept = [each for each in self.snapshots.snapshots if each.step not in dropped]
                if self._writer.is_complete and self._writer.manifest.get(OF_TRACE) not in {
                    each.experts for each in kept
                }:
                    # the trace has the routing of a snapshot that is dropped
                    self._writer.describe(complete=False)
                    if kept:
                        self._write_trace(self._read(kept[0]), kept[0].experts)
                self._list(Snapshots(snapshots=kept))
                for step in dropped:
                    for suffix in ("parquet", "arrow"):
                        path = snapshot_path(self.run, step, suffix)
                        path.unlink(missing_ok=True)
                        announce(path)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Release the folder."""
        self._stack.close()

    def add(self, step: int, experts: Experts) -> pd.DataFrame:
        """Measure and write a snapshot; it is stored durably when this returns.

        Args:
            step: optimizer steps that the training has done.
            experts: int16 [tokens, k] of each router.

        Returns:
            Its result rows.
        """
        checksum = _write_experts(snapshot_path(self.run, step, "arrow"), experts)
        if not self._writer.is_complete:
            self._write_trace(experts, checksum)
        rows = measure_snapshot(
            self._layers(experts),
            self._sample.annotations,
            run_name=self.run.resolve().name,
            previous=self._previous(step),
            **{name: self._settings[name] for name in ("permutations", "num_blocks", "seed")},
        )
        snapshot = Snapshot(step=step, experts=checksum, rows=write_snapshot(self.run, step, rows))
        before = [each for each in self.snapshots.snapshots if each.step < step]
        self._list(Snapshots(snapshots=[*before, snapshot]))
        self._last = step, experts
        return rows

    def finish(self) -> None:
        """Measure the saturation of every snapshot against the last one, and store its routing as the trace."""
        if self.snapshots.has_ended or not self.snapshots.snapshots:
            return
        *earlier, end = self.snapshots.snapshots
        last = self._read(end)
        if not self._writer.is_complete:
            self._write_trace(last, end.experts)
        frames = [
            saturation_rows(
                self._layers(self._read(each)),
                last,
                run_name=self.run.resolve().name,
                num_blocks=self._settings["num_blocks"],
            ).assign(**{STEP: each.step})
            for each in earlier
        ]
        empty = saturation_rows(self._layers(last), last, run_name="").iloc[:0].assign(**{STEP: np.empty(0, np.int64)})
        saturation = write_saturation(self.run, pd.concat(frames, ignore_index=True) if frames else empty)
        self._write_trace(last, end.experts)
        self._list(self.snapshots.model_copy(update={"end": end.step, "saturation": saturation}))

    def _list(self, snapshots: Snapshots) -> None:
        write_snapshots(self.run, snapshots)
        self.snapshots = snapshots

    def _layers(self, experts: Experts) -> list[tuple[RouterSpec, LayerInput]]:
        if self._groups is None:
            self._groups = open_trace(self.run).groups
        places = self._sample.places
        return [
            (spec, LayerInput(experts=own, documents=places, num_experts=spec.num_experts, groups=self._groups))
            for spec, own in zip(self.specs, experts, strict=True)
        ]

    def _previous(self, step: int) -> Experts | None:
        before = [each for each in self.snapshots.snapshots if each.step < step]
        if not before:
            return None
        if self._last is not None and self._last[0] == before[-1].step:
            return self._last[1]
        return self._read(before[-1])

    def _read(self, snapshot: Snapshot) -> Experts:
        path = snapshot_path(self.run, snapshot.step, "arrow")
        if not path.is_file() or sha256_of(path) != snapshot.experts:
            raise TraceError(
                f"{path}: expected the experts of the snapshot of step {snapshot.step}, got "
                f"{'a damaged file' if path.is_file() else 'no file'}; train into another run folder"
            )
        return _read_experts(path)

    def _write_trace(self, experts: Experts, checksum: str) -> None:
        """Write the sample with the routing of a snapshot as the trace of the run, in place of the one that is there.

        Args:
            experts: of the snapshot.
            checksum: of the file that holds them.
        """
        writer, sample = self._writer, self._sample
        if not writer.has_documents():
            corpus = sample.corpus()
            write_documents(writer, corpus, sample.label_columns, text_of=lambda _, each: each.text or None)
            labels = describe_corpus(corpus, sample.label_columns)
            writer.describe(routers=[spec.as_dict() for spec in self.specs], contents=[], corpus=labels)
        counts = np.array([window.num_recorded for window in sample.windows])
        tokens = token_columns(sample.windows, counts, 0)
        tokens = {name: values for name, values in tokens.items() if name != "role"}
        routing = [{"experts": own} for own in experts]
        writer.describe(complete=False, **{OF_TRACE: checksum})  # until both files of the shard are there
        writer.write_shard(Shard(tokens, routing), number=0)
        writer.finish()
        trace = open_trace(self.run)
        for annotation in sample.annotations:
            save_annotation(trace, annotation)


def _write_experts(path: Path, experts: Experts) -> str:
    fields = [(f"experts.{index}", pa.list_(pa.int16(), own.shape[1])) for index, own in enumerate(experts)]
    schema = pa.schema(fields)
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(own).reshape(-1)), own.shape[1])
        for own in experts
    ]
    return write_arrow(path, schema, [pa.record_batch(columns, schema=schema)])


def _read_experts(path: Path) -> list[NDArray[np.int16]]:
    return [rows_of(column, column.type.list_size) for column in read_arrow(path).columns]
