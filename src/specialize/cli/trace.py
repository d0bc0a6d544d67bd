"""The command that records routing."""

from typing import Annotated

import typer

from specialize.cli.app import RECORD, add_command, command_line
from specialize.cli.capture_options import (
    CaptureOptions,
    CorpusOptions,
    CorpusPaths,
    Model,
    ModelOptions,
    ServingOptions,
    choose_corpus,
)
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import EngineOptions, Json, Output, arguments, grouped
from specialize.cli.written import describe_trace, print_trace


@add_command(RECORD)
@grouped
def trace(
    model: Model,
    corpus: CorpusPaths,
    *,
    output: Output,
    reading: CorpusOptions,
    loading: ModelOptions,
    capture: CaptureOptions,
    serving: ServingOptions,
    scaling: EngineOptions,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Trace the I-th of N parts, into the folder RUN.part-I-of-N beside RUN; auto: as a Slurm array, srun "
            "or torchrun has numbered this process. `specialize merge` joins the parts.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random routers.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a corpus through a model and record which experts every token was routed to.

    The same command resumes an interrupted trace, and extends it by documents that were added at the end of the corpus.
    """
    import specialize

    opened = specialize.trace_corpus(
        model,
        choose_corpus(corpus),
        output,
        **arguments(reading, loading, capture, serving, scaling),
        shard=shard,
        seed=seed,
        command=command_line(),
        reporter=TERMINAL,
    )
    if as_json:
        print_json(describe_trace(opened))
    else:
        print_trace(opened)
