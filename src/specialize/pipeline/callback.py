"""The specialization of a model while `transformers.Trainer` trains it."""

import inspect
import warnings
from os import PathLike
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from specialize.errors import ConfigError, did_you_mean
from specialize.pipeline.monitor import monitor

if TYPE_CHECKING:
    from transformers import Trainer

    from specialize.monitoring.monitor import Monitor
    from specialize.pipeline.monitor import Source

_OWN = ("first_step",)  # options of the monitor that the Trainer knows


class SpecializationCallback(TrainerCallback):
    """Watches how the experts of a model specialize while a `transformers.Trainer` trains it.

    Example::

        callback = specialize.SpecializationCallback("runs/held-out", "runs/training", every=200)
        callback.add_to(trainer)
        trainer.train()

    It is `specialize.monitor`, called after each optimizer step, however many batches that accumulates. Steps are those
    of the Trainer: a training that is resumed from a checkpoint keeps the snapshots up to that checkpoint. The
    Trainer's tokenizer (`processing_class`) and mixed precision (`bf16`, `fp16`) are used. The numbers of each snapshot
    go to everything that the Trainer logs to.

    Args:
        sample: held-out text with labels, as for `specialize.monitor`.
        run: the run folder to write.
        **options: any other option of `specialize.monitor`, except ``first_step``.

    Raises:
        ConfigError: an option is unknown.
    """

    def __init__(self, sample: "Source", run: str | PathLike[str], **options: Any) -> None:
        known = [
            name for name in inspect.signature(monitor).parameters if name not in ("model", "sample", "run", *_OWN)
        ]
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"options: expected any of {', '.join(known)}, got {name!r}.{did_you_mean(name, known)}"
                )
        self._sample = sample
        self._run = run
        self._options = options
        self._trainer: Trainer | None = None
        self._monitor: Monitor | None = None

    def add_to(self, trainer: "Trainer") -> "SpecializationCallback":
        """Add the callback to a Trainer and log through it; a callback alone has no access to the Trainer's loggers."""
        trainer.add_callback(self)
        self._trainer = trainer
        return self

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the first snapshot, or keep those of a training that is resumed."""
        if self._trainer is None:
            warnings.warn(
                "SpecializationCallback: numbers are written to the run folder alone; call add_to(trainer) instead of "
                "passing it as one of the callbacks, to log them too",
                stacklevel=2,
            )
        if self._monitor is not None:  # of a training that failed
            self._monitor.close()
        found: dict[str, Any] = {"autocast": "bfloat16" if args.bf16 else "float16" if args.fp16 else None}
        tokenizer = kwargs.get("processing_class")
        if getattr(tokenizer, "is_fast", False):
            found["tokenizer"] = tokenizer
        self._monitor = monitor(
            kwargs["model"], self._sample, self._run, first_step=state.global_step, **(found | self._options)
        )
        self._log(self._monitor.start(), control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take a snapshot if it is due; this follows an optimizer step, not each of the batches that it accumulates."""
        if self._monitor is not None:
            self._log(self._monitor.step(state.global_step), control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the last snapshot, and measure saturation against it."""
        if self._monitor is not None:
            self._log(self._monitor.finish(), control)
            self._monitor = None

    def _log(self, found: dict[str, float] | None, control: TrainerControl) -> None:
        if found and self._trainer is not None:
            asked = control.should_log  # by others at this step; logging resets it
            self._trainer.log(found)
            control.should_log = asked
