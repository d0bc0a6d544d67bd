"""The command that trains a model of one's own."""

import math
from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import TRAIN, add_command
from specialize.cli.console import TERMINAL, out, print_json, print_line
from specialize.cli.options import Json
from specialize.cli.tables import number, print_facts, print_table
from specialize.text import format_number


@add_command(TRAIN)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings of the model, data and optimiser.")],
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of data, checkpoint and model.")
    ],
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="A run of held-out text, or a corpus with labels: measure specialization on it during training.",
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Optimizer steps between snapshots. Default: `snapshots` in [training], else 100."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a Mixture-of-Experts language model. The same command again resumes from the last checkpoint."""
    import specialize

    result = specialize.train(config, output, sample=sample, every=every, reporter=TERMINAL)
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
