"""The command that measures topics."""

from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, say
from specialize.cli.options import EngineOptions, Json, Language, MeasureOptions, Run, TopicOptions, arguments, grouped
from specialize.cli.summary import print_summary


@add_command(MEASURE)
@grouped
def topics(
    run: Run,
    *,
    fitting: TopicOptions,
    measuring: MeasureOptions,
    scaling: EngineOptions,
    language: Language = None,
    as_json: Json = False,
) -> None:
    """Find the documents' topics and measure how far routing is associated with them and with known labels.

    Topics of windows are labels of tokens: they are measured against rotations within each document, so that what
    exceeds the null is routing that follows the topic within documents.
    """
    import specialize

    specialize.topics(run, **arguments(fitting, measuring, scaling), language=language, reporter=TERMINAL)
    say(f"results: {run}/topics")
    print_summary([run], as_json=as_json)
