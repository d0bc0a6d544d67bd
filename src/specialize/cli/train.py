"""The command that trains a model of one's own."""

import math
from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import app
from specialize.cli.console import out, print_json, print_line, progress, say
from specialize.cli.options import Json
from specialize.cli.tables import number, print_facts, print_table
from specialize.text import format_number


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
        return
    print_facts(
        {
            "held-out perplexity": f"{result.perplexity:.1f}"
            + ("" if result.is_causal else ", not causal: not comparable"),
            "unigram perplexity": f"{result.unigram_perplexity:.1f}",
            "tokens evaluated": f"{result.tokens:,}",
        }
    )
    out.print()
    print_table(
        "Load on held-out text: its entropy, and the experts' shares of slots",
        [number(head) for head in ("layer", "entropy,\nbits", "even:\nlog2 E", "least\nused", "most\nused")],
        [
            [layer, *map(format_number, (entropy, math.log2(len(load)), min(load), max(load)))]
            for layer, (entropy, load) in enumerate(zip(result.load_entropy, result.load, strict=True))
        ],
    )
    print_line(output / "model")
