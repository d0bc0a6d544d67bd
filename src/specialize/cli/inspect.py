"""The command that shows the routers of a model."""

from specialize.cli.app import RECORD, add_command
from specialize.cli.capture_options import Model, ModelOptions
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, arguments, grouped
from specialize.cli.tables import number, print_table, text, word


@add_command(RECORD)
@grouped
def inspect(model: Model, *, loading: ModelOptions, as_json: Json = False) -> None:
    """Show the routers of a model: layer, module, E, k, score function, unit, and how they were found."""
    import specialize

    specs = specialize.inspect(model, **arguments(loading), reporter=TERMINAL)
    if as_json:
        print_json([spec.as_dict() for spec in specs])
        return
    columns = {
        number("layer"): [spec.layer for spec in specs],
        text("module"): [spec.name for spec in specs],
        number("E"): [spec.num_experts for spec in specs],
        number("k"): [spec.top_k for spec in specs],
        word("score\nfunction"): [spec.score_function for spec in specs],
        word("weights\nsum to 1"): [_yes_or_no(spec.normalized) for spec in specs],
        word("unit"): [spec.unit for spec in specs],
    }
    if any(spec.stack == "encoder" for spec in specs):
        columns[word("stack")] = [spec.stack for spec in specs]
    if any(spec.static for spec in specs):
        columns[word("by\ntoken id")] = [_yes_or_no(spec.static) for spec in specs]
    if any(spec.identity_experts for spec in specs):
        columns[number("identity\nexperts")] = [spec.identity_experts for spec in specs]
    ways = sorted({spec.found_by for spec in specs})
    if len(ways) > 1:
        columns[text("found by")] = [spec.found_by for spec in specs]
    title = f"{len(specs)} routers, found by: {', '.join(ways)}"
    print_table(title, list(columns), list(zip(*columns.values(), strict=True)))


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
