"""The command that does everything."""

from specialize.addresses import show
from specialize.cli.app import ALL, add_command, command_line
from specialize.cli.capture_options import (
    CaptureOptions,
    CorpusOptions,
    CorpusPaths,
    Model,
    ModelOptions,
    choose_corpus,
)
from specialize.cli.console import TERMINAL, say
from specialize.cli.options import (
    EmbeddingOptions,
    Json,
    Language,
    MeasureOptions,
    Output,
    SkipPositions,
    TagOptions,
    arguments,
    grouped,
)
from specialize.cli.summary import print_summary


@add_command(ALL)
@grouped
def run(
    model: Model,
    corpus: CorpusPaths,
    *,
    output: Output,
    reading: CorpusOptions,
    loading: ModelOptions,
    capture: CaptureOptions,
    tagging: TagOptions,
    fitting: EmbeddingOptions,
    measuring: MeasureOptions,
    language: Language = None,
    skip_positions: SkipPositions = 0,
    as_json: Json = False,
) -> None:
    """Trace a corpus, measure syntax, topics, routing and vocabulary, and write RUN/report/report.html."""
    import specialize

    page = specialize.run(
        model,
        choose_corpus(corpus),
        output,
        **arguments(reading, loading, capture, tagging, fitting, measuring),
        language=language,
        skip_positions=skip_positions,
        command=command_line(),
        reporter=TERMINAL,
    )
    print_summary([output], as_json=as_json)
    say(f"report: {show(page)}")
