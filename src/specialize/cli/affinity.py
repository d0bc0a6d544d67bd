"""The command that finds the experts a corpus needs most."""

from collections import defaultdict
from typing import Annotated, Any

import typer

from specialize.choices import AffinityScore
from specialize.cli.app import MEASURE, add_command
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Run
from specialize.cli.tables import number, print_table, text
from specialize.text import format_number


@add_command(MEASURE)
def affinity(
    run: Run,
    *,
    top_p: Annotated[float, typer.Option(help="Share that the selected experts reach together.")] = 0.2,
    by: Annotated[
        AffinityScore, typer.Option(help="Score to select by: share of slots (token), or mean gate weight (gate).")
    ] = "token",
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Score documents of each value of a known label apart.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which experts of each layer a corpus needs most, as ESFT scores them (Wang et al. 2024)."""
    import specialize

    measured = specialize.affinity(run, top_p=top_p, by=by, label=label, reporter=TERMINAL)
    if as_json:
        layers: dict[str | None, dict[str, Any]] = defaultdict(dict)
        for each in measured:
            layers[each.value][each.layer] = each.as_dict()
        found = {"layers": layers[None]} if label is None else {"label": label, "values": layers}
        print_json({"top_p": top_p, "by": by, **found})
        return
    rows = []
    for each in measured:
        scores = each.token_scores if by == "token" or each.gate_scores is None else each.gate_scores
        chosen = ", ".join(f"{expert} ({scores[expert]:.3f})" for expert in each.selected)
        together = format_number(scores[list(each.selected)].sum())
        value = [] if label is None else [each.value]
        rows.append([each.layer, *value, len(each.selected), len(scores), together, chosen])
    what = "share of slots" if by == "token" else "mean gate weight"
    is_numbered = all(each.layer.isdigit() for each in measured)
    print_table(
        f"Experts that reach {top_p:g} by {what}",
        [
            (number if is_numbered else text)("layer"),
            *([] if label is None else [text(label)]),
            *map(number, ("selected", "of", "together")),
            text("experts (score), the highest first"),
        ],
        rows,
    )
