"""Commands that exchange routing with other tools: import, export, and the affinity of experts to a task."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import app, command_line
from specialize.cli.console import in_bytes, print_json, print_line, progress, say
from specialize.cli.options import Json, Output, Run
from specialize.cli.tables import number, print_table, text
from specialize.cli.written import print_trace
from specialize.errors import TraceError
from specialize.rate import Rate
from specialize.text import format_number

_SECONDS_OF_RATE = 30.0


class Target(StrEnum):
    """What a trace can be exported to."""

    parquet = "parquet"


class AffinityScore(StrEnum):
    """The score that experts are selected by."""

    token = "token"
    gate = "gate"


@app.command("import")
def import_command(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="esft, olmoe, vllm, sglang or arrays.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file of that format, or a folder of them.")],
    output: Output,
    documents: Annotated[
        Path | None,
        typer.Option(help="Table of the documents: id, text, labels. By row, or by id where the format has ids."),
    ] = None,
    num_experts: Annotated[
        int | None, typer.Option(min=1, help="Experts of a layer. Default: the largest id + 1.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Slots of a token, where the format does not tell.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Numbers of the MoE layers, such as 1-26 or 0,2,4. Default: all, from 0.")
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(min=1, help="Layers in each response, dense ones included (sglang).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run folder of routing that another tool recorded.

    \b
    esft     a folder of expert_weights_LAYER.txt: a line a sample, expert ids,
             two tabs, gate weights
    olmoe    JSON Lines of {input_ids, predicted_token_ids, exp_ids [T, k, L]}
    vllm     routed experts [tokens, layers, k], .npy or .safetensors,
             a file or a folder; -1: not recorded
    sglang   JSON Lines of responses with meta_info.routed_experts (base64);
             give --num-layers and --top-k
    arrays   .npz or a folder of .npy: experts [tokens, layers, k]; and, as
             wanted, weights (the same), document, token_id, position,
             char_start, char_end [tokens], layers [layers], num_experts.
             Or Parquet, a row a token: document, token_id, position,
             char_start, char_end, lists experts_LAYER and weights_LAYER.
             -1 or null: a slot without an expert. documents.parquet beside
             it is the table of documents.

    Texts are what `syntax` and `topics` need: give them with --documents, and char_start and char_end for `syntax`.
    """
    from specialize.trace.imports import ImportOptions, ImportProgress, import_trace

    options = ImportOptions(
        num_experts=num_experts, top_k=top_k, layers=read_layers(layers), num_layers=num_layers, documents=documents
    )
    speed, counted = Rate(_SECONDS_OF_RATE), [0]
    with progress("importing", "MB") as update:

        def show(done: ImportProgress) -> None:
            speed.count(done.tokens - counted[0])
            counted[0] = done.tokens
            update(done.bytes_done // 10**6, -(-done.bytes // 10**6), rate=f"{speed.value:,.0f} tokens/s")

        trace = import_trace(
            format_name, path, output, options=options, command=command_line(), on_progress=show, on_note=say
        )
    summary = {
        "run": str(output),
        "documents": trace.num_documents,
        "tokens": trace.num_tokens,
        "layers": len(trace.layers),
        "num_experts": trace.layers[0].num_experts,
        "top_k": trace.layers[0].top_k,
        "contents": list(trace.contents),
    }
    if as_json:
        print_json(summary)
    else:
        print_trace(trace)


def read_layers(text: str | None) -> tuple[int, ...] | None:
    """Read numbers of layers as a user writes them: 1-26, or 0,2,4.

    Raises:
        TraceError: it is not that, or a number comes twice.
    """
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None:
            raise TraceError(f"--layers: expected numbers such as 1-26 or 0,2,4, got {text!r}")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers or len(set(numbers)) < len(numbers):
        raise TraceError(f"--layers: expected every layer once, got {text!r}")
    return tuple(numbers)


@app.command("export")
def export_command(
    run: Run,
    to: Annotated[Target, typer.Option(help="What to write.")] = Target.parquet,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder to write. Default: RUN/parquet.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trace as Parquet: documents, tokens with their text, and a row for each slot of each token."""
    from specialize.trace import open_trace
    from specialize.trace.export import export_parquet

    trace = open_trace(run)
    with progress("exporting", "tokens") as update:
        folder = export_parquet(trace, output or run / to.value, on_progress=update)
    files = sorted(folder.iterdir())
    if as_json:
        print_json({"folder": str(folder), "files": {path.name: path.stat().st_size for path in files}})
        return
    from pyarrow.parquet import read_metadata

    print_table(
        None,
        [text("file"), number("rows"), number("size")],
        [[path.name, f"{read_metadata(path).num_rows:,}", in_bytes(path.stat().st_size)] for path in files],
    )
    print_line(folder)


@app.command()
def affinity(
    run: Run,
    top_p: Annotated[float, typer.Option(help="Share that the selected experts reach together.")] = 0.2,
    by: Annotated[
        AffinityScore, typer.Option(help="Score to select by: share of slots, or mean gate weight.")
    ] = AffinityScore.token,
    as_json: Json = False,
) -> None:
    """Show which experts of each layer a corpus needs most, as ESFT scores them (Wang et al. 2024)."""
    from specialize.measure.runs.affinity import measure_affinity
    from specialize.trace import open_trace

    trace = open_trace(run)
    with progress("affinity", "layers") as update:
        measured = list(measure_affinity(trace, top_p=top_p, by=by.value, progress=update))
    if as_json:
        print_json({"top_p": top_p, "by": by.value, "layers": {each.layer: each.as_dict() for each in measured}})
        return
    rows = []
    for each in measured:
        scores = each.token_scores if by is AffinityScore.token or each.gate_scores is None else each.gate_scores
        chosen = ", ".join(f"{expert} ({scores[expert]:.3f})" for expert in each.selected)
        together = format_number(scores[list(each.selected)].sum())
        rows.append([each.layer, len(each.selected), len(scores), together, chosen])
    what = "share of slots" if by is AffinityScore.token else "mean gate weight"
    is_numbered = all(each.layer.isdigit() for each in measured)
    print_table(
        f"Experts that reach {top_p:g} by {what}",
        [
            (number if is_numbered else text)("layer"),
            *map(number, ("selected", "of", "together")),
            text("experts (score), the highest first"),
        ],
        rows,
    )
