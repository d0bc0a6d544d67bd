"""Training a small Mixture-of-Experts language model."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.choices import refuse_address
from specialize.events import SILENT, Reporter
from specialize.extras import require_extra
from specialize.pipeline.monitor import EVERY, monitor, open_source

if TYPE_CHECKING:
    from specialize.models.evaluation import Evaluation
    from specialize.models.settings import TrainConfig
    from specialize.models.training import Watch
    from specialize.pipeline.monitor import Source

MONITORED = "monitor"  # run folder in the folder of a training


def train(
    config: "str | PathLike[str] | TrainConfig",
    folder: str | PathLike[str],
    *,
    sample: "Source | None" = None,
    every: int | None = None,
    reporter: Reporter = SILENT,
) -> "Evaluation":
    """Train a Mixture-of-Experts language model; the same call again resumes from the last checkpoint.

    A training that is complete is left as it is. With a sample, the specialization of the experts is measured during
    training, see `specialize.monitor`, and written to the run folder ``monitor`` in the folder.

    Args:
        config: a TOML file with the settings of model, data and optimiser, or the settings.
        folder: where data, checkpoint and model go.
        sample: held-out text with labels: a run of a model with the same tokenizer, or texts with label columns.
        every: optimizer steps from one snapshot to the next; default: the steps of ``snapshots`` in ``[training]``,
            else every 100.
        reporter: receives progress.

    Returns:
        The evaluation of the saved model on all held-out windows.

    Raises:
        ConfigError: the settings contradict themselves or those of the run in the folder.
        CorpusError: the corpus cannot be read.
        TrainingError: another process is training in the folder, a file in it is damaged, the training diverged, or
            memory ran out.
        OutputError: a file cannot be written.
        SpecializeError: the sample cannot be measured, as in `specialize.monitor`.
    """
    require_extra("capture")
    refuse_address("folder", folder)
    reporter.say("loading torch …")
    from specialize.models.settings import TrainConfig, read_train_config
    from specialize.models.training import train as train_model

    settings = config if isinstance(config, TrainConfig) else read_train_config(Path(config))
    watch = None
    if sample is not None:
        watch = watch_training(settings, sample, Path(folder) / MONITORED, every=every, reporter=reporter)
    return train_model(settings, Path(folder), watch=watch, reporter=reporter)


def watch_training(
    config: "TrainConfig", sample: "Source", run: Path, *, every: int | None = None, **options: Any
) -> "Watch":
    """Return what opens the monitor of a training of this package's own model.

    A training that starts again, as one that was killed before its first checkpoint, replaces what the folder has.

    Args:
        config: the settings of the training.
        sample: held-out text with labels; it is opened at once.
        run: the run folder to write.
        every: as in `train`.
        **options: further options of `monitor`.

    Raises:
        TraceError: the run has no complete trace.
        CorpusError: the texts cannot be read.
    """
    settings, source = config.training, open_source(sample)
    if every is None and not settings.snapshots:
        every = EVERY
    how = {"every": every, "steps": settings.snapshots if every is None else ()}
    autocast = None if settings.dtype == "float32" else settings.dtype

    def watch(model: Any, tokenizer: Any, step: int) -> Any:
        return monitor(
            model,
            source,
            run,
            tokenizer=tokenizer,
            first_step=step,
            overwrite=True,
            autocast=autocast,
            **{**how, **options},
        )

    return watch
