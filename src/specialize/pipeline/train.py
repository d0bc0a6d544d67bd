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

    Args:
        config: a TOML file with the settings of model, data and optimiser, or the settings.
        folder: where data, checkpoint and model go.
        reporter: receives progress.

    Returns:
        The evaluation of the saved model on all held-out windows.

    Raises:
        ConfigError: the settings contradict themselves or those of the run in the folder.
        CorpusError: the corpus cannot be read.
    """
    require_extra("capture")
    from specialize.models.settings import TrainConfig, read_train_config

    # before torch is loaded: a mistake in it shows at once
    settings = config if isinstance(config, TrainConfig) else read_train_config(Path(config))
    reporter.say("loading torch …")
    from specialize.models.training import train as train_model

    return train_model(settings, Path(folder), reporter=reporter)
