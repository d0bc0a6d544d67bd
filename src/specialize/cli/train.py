"""The command that trains a model of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import out, print_json, progress, say
from specialize.cli.options import Json


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings of the model, data and optimiser.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of data, checkpoint and model.")
    ],
    as_json: Json = False,
) -> None:
    """Train a Mixture-of-Experts language model. The same command again goes on from the last checkpoint."""
    from specialize.models.settings import read_train_config

    settings = read_train_config(config)  # before torch is loaded: a mistake in it shows at once
    say("loading torch …")
    from specialize.models.training import Progress, train

    with progress("training", "steps") as update:

        def show(done: Progress) -> None:
            quality = f"loss {done.loss:.3f}, held-out perplexity {done.perplexity:.1f}"
            update(done.step, done.steps, rate=f"{done.tokens_per_second:,.0f} tokens/s, {quality}")

        result = train(settings, output, on_step=show)
    if as_json:
        print_json(result.as_dict())
    else:
        note = "" if result.is_causal else " (non-causal: not comparable)"
        out.print(
            f"{output / 'model'}: held-out perplexity {result.perplexity:.1f}{note}, "
            f"unigrams {result.unigram_perplexity:.1f}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
