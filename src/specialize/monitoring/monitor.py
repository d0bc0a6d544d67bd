"""Watches a model while it trains: measures it at intervals of optimizer steps."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from specialize.capture.loading import describe_model
from specialize.choices import Control, check_control, check_whole
from specialize.errors import MeasurementError, SpecializeError, TraceError
from specialize.events import SILENT, Reporter
from specialize.monitoring.forward import SampleRunner, is_first_process, is_true_anywhere, keeping_threads
from specialize.monitoring.sample import Sample
from specialize.monitoring.store import SnapshotStore
from specialize.monitoring.summary import summarize_snapshot
from specialize.tracing.options import control_settings


@dataclass(frozen=True)
class MonitorOptions:
    """When and how a model is measured during training.

    Attributes:
        every: optimizer steps from one snapshot to the next; None for `steps` alone.
        steps: further steps at which a snapshot is taken.
        permutations: permutations under the null.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: of the null, and of the random routers.
        control: ``random-router`` measures a random router beside each of the model's.
        batch_tokens: padded tokens per forward pass.
        autocast: number format of automatic mixed precision, ``bfloat16`` or ``float16``; None for that of the place
            where the monitor is called.

    Raises:
        MeasurementError: a number is out of range, or not a whole one.
    """

    every: int | None = 100
    steps: Collection[int] = ()
    permutations: int = 20
    num_blocks: int = 50
    seed: int = 0
    control: Control | None = None
    batch_tokens: int = 8192
    autocast: str | None = None

    def __post_init__(self) -> None:
        least = {"permutations": 0, "num_blocks": 1, "seed": 0, "batch_tokens": 1}
        given = {name: getattr(self, name) for name in least}
        if self.every is not None:
            given, least = given | {"every": self.every}, least | {"every": 1}
        for name, value in given.items():
            check_whole(name, value, error=MeasurementError)
            if value < least[name]:
                raise MeasurementError(f"{name}: expected a number of at least {least[name]}, got {value}")
        for step in self.steps:
            check_whole("steps", step, error=MeasurementError)
            if step < 0:
                raise MeasurementError(f"steps: expected optimizer steps from 0, got {step}")
        if self.autocast not in (None, "bfloat16", "float16"):
            raise MeasurementError(f"autocast: expected bfloat16, float16 or None, got {self.autocast!r}")
        check_control(self.control, 1, error=MeasurementError)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the numbers of a snapshot, besides the sample and the model."""
        names = ("permutations", "num_blocks", "seed", "control")
        return control_settings(self.control, 1, self.seed) | {name: getattr(self, name) for name in names}


class Monitor:
    """Measures a model in training on a fixed sample; `specialize.monitor` makes one.

    As a context manager it takes the first snapshot, unless a training is resumed, and the last when the block ends. If
    the block raises an exception, what was recorded is kept for the training that is resumed. In a distributed training
    every process makes a monitor and calls it; the first one measures and writes.

    Args:
        model: the model, possibly inside DistributedDataParallel or torch.compile.
        sample: what is measured.
        run: the run folder.
        options: when and how.
        first_step: optimizer steps that the training has done, those of the checkpoint from which it is resumed.
        overwrite: start again in a folder with the snapshots of an earlier training.
        reporter: receives messages.

    Attributes:
        num_steps: optimizer steps done so far.

    Raises:
        CaptureError: the routing of the model cannot be captured, or its parameters are sharded over processes.
    """

    def __init__(
        self,
        model: Any,
        sample: Sample,
        run: Path,
        options: MonitorOptions,
        *,
        first_step: int = 0,
        overwrite: bool = False,
        reporter: Reporter = SILENT,
    ) -> None:
        check_whole("first_step", first_step, error=MeasurementError)
        self.num_steps = first_step
        self._options = options
        self._overwrite = overwrite
        self._reporter = reporter
        how = {name: value for name, value in asdict(options).items() if name in _OF_THE_PASS}
        self._runner = SampleRunner(model, sample.windows, **how)
        self._measured: int | None = None  # the step of the last pass over the sample, the same in all processes
        self._store: SnapshotStore | None = None
        self._sample, self._run = sample, run

    def start(self) -> dict[str, float] | None:
        """Open the run folder, and take its first snapshot; returns as `step` does.

        A training that is resumed has one already: it then takes a snapshot only if one is due, so that it ends with
        those of a training that was not interrupted.

        Raises:
            TraceError: the folder holds something else, or was measured with another sample or other settings; or
                another process is writing to it.
            MeasurementError: the folder has snapshots, and the training starts at step 0.
        """
        failure: SpecializeError | None = None
        if is_first_process():
            try:
                self._store = self._open_store()
            except SpecializeError as error:
                failure = error
        if is_true_anywhere(failure is not None, self._runner.model):  # the others would wait for it
            raise failure or TraceError(f"{self._run}: the first process could not open this run folder")
        resumed = is_true_anywhere(self._store is not None and bool(self._store.snapshots.steps), self._runner.model)
        return self.measure() if self._is_due or not resumed else None

    @property
    def _is_due(self) -> bool:
        every = self._options.every
        return self.num_steps in self._options.steps or (every is not None and self.num_steps % every == 0)

    def _open_store(self) -> SnapshotStore:
        model = self._runner.model
        name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
        facts = describe_model(model, name=name)
        store = SnapshotStore(self._run, self._sample, self._runner.specs, settings=self._options.settings, model=facts)
        store.open(self.num_steps, overwrite=self._overwrite)
        return store

    def step(self, num_steps: int | None = None) -> dict[str, float] | None:
        """Note that an optimizer step is done, and take a snapshot if it is due.

        Args:
            num_steps: optimizer steps done so far; default: one more than before.

        Returns:
            A few numbers for a logger, see `summarize_snapshot`; None if nothing was measured, and in all processes but
            the first.
        """
        self.num_steps = self.num_steps + 1 if num_steps is None else num_steps
        return self.measure() if self._is_due else None

    def measure(self) -> dict[str, float] | None:
        """Take a snapshot now; returns as `step` does.

        Raises:
            CaptureError: the model fails, or its gate weights are not finite.
            OutputError: a file cannot be written; what was recorded before is kept.
        """
        if self._measured == self.num_steps:
            return None
        experts = self._runner.run()
        self._measured = self.num_steps
        if self._store is None or self.num_steps in self._store.snapshots.steps:  # of a training that is resumed
            return None
        with keeping_threads():
            rows = self._store.add(self.num_steps, experts)
        self._reporter.say(f"{self._store.run}: step {self.num_steps:,} measured")
        return summarize_snapshot(rows)

    def finish(self) -> dict[str, float] | None:
        """Take the last snapshot, measure saturation against it, and close the run folder; returns as `step` does."""
        found = self.measure()
        if self._store is not None:
            with keeping_threads():
                self._store.finish()
        self.close()
        return found

    def close(self) -> None:
        """Close the run folder without a last snapshot; the training can be resumed."""
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> "Monitor":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()


_OF_THE_PASS = ("control", "seed", "batch_tokens", "autocast")
