"""Training a small Mixture-of-Experts language model."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.events import SILENT, Reporter
from specialize.extras import require_extra

if TYPE_CHECKING:
    from specialize.models.evaluation import Evaluation
    from specialize.models.settings import TrainConfig


def train(
    config: "str | PathLike[str] | TrainConfig", folder: str | PathLike[str], *, reporter: Reporter = SILENT
) -> "Evaluation":
    """Train a Mixture-of-Experts language model; the same call again resumes from the last checkpoint.

    A training that is complete is left as it is.

    Args:
        config: a TOML file with the settings of model, data and optimiser, or the settings.
        folder: where data, checkpoint and model go.
        reporter: receives progress.

    Returns:
        The evaluation of the saved model on all held-out windows.

    Raises:
        ConfigError: the settings contradict themselves or those of the run in the folder.
        CorpusError: the corpus cannot be read.
        TrainingError: another process is training in the folder, a file in it is damaged, the training diverged, or
            memory ran out.
        OutputError: a file cannot be written.
    """
    require_extra("capture")
    reporter.say("loading torch …")
    from specialize.models.settings import TrainConfig, read_train_config
    from specialize.models.training import train as train_model

    settings = config if isinstance(config, TrainConfig) else read_train_config(Path(config))
    return train_model(settings, Path(folder), reporter=reporter)
