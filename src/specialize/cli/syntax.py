"""The command that measures syntax."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, say
from specialize.cli.options import (
    EngineOptions,
    Json,
    Language,
    MeasureOptions,
    Run,
    SkipPositions,
    TagOptions,
    arguments,
    grouped,
)
from specialize.cli.summary import print_summary


@add_command(MEASURE)
@grouped
def syntax(
    run: Run,
    *,
    tagging: TagOptions,
    measuring: MeasureOptions,
    scaling: EngineOptions,
    language: Language = None,
    gold: Annotated[
        Path | None,
        typer.Option(metavar="CONLLU", help="Treebank that was traced, whose tags are measured beside the tagger's."),
    ] = None,
    skip_positions: SkipPositions = 0,
    as_json: Json = False,
) -> None:
    """Tag the traced text and measure how far routing is associated with the tags.

    The results hold, beside the association itself: what is left of it among tokens of one id, the association with
    the next token's tag, and how concentrated each tag is on its top experts.
    """
    import specialize

    specialize.syntax(
        run,
        **arguments(tagging, measuring, scaling),
        language=language,
        gold=gold,
        skip_positions=skip_positions,
        reporter=TERMINAL,
    )
    say(f"results: {run}/syntax")
    print_summary([run], as_json=as_json)
