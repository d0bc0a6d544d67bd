"""The command that imports routing."""

from pathlib import Path
from typing import Annotated

import typer

from specialize.cli.app import RECORD, add_command, command_line
from specialize.cli.console import TERMINAL, print_json
from specialize.cli.options import Json, Output
from specialize.cli.written import print_trace
from specialize.errors import TraceError


@add_command(RECORD, "import")
def import_(
    format_name: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="esft, olmoe, vllm, sglang, tensorrt-llm, route-trace, megatron, usage or arrays.",
        ),
    ],
    path: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="A file of that format, or a folder of them; several as NAME=PATH."),
    ],
    *,
    output: Output,
    documents: Annotated[
        Path | None,
        typer.Option(help="Table of the documents: id, text, labels. By row, or by id where the format has ids."),
    ] = None,
    num_experts: Annotated[
        int | None,
        typer.Option(min=1, help="Experts of a layer. Default: by the input or --model, else the largest id + 1."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Slots of a token, where the format does not say.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Numbers of the MoE layers, such as 1-26 or 0,2,4. Default: all, from 0.")
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(min=1, help="Layers in each response, dense ones included (sglang).")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Label of documents for the names of inputs. Default: input.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Folder or hub id of the model, whose config gives E, k and the MoE layers."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Folder or hub id of the tokenizer, which decodes token ids to texts. Default: none."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run folder of routing that another tool recorded.

    \b
    esft     a folder of expert_weights_LAYER.txt: a line a sample, expert ids,
             two tabs, gate weights
    olmoe    JSON Lines of input_ids, predicted_token_ids and exp_ids
             (tokens x k x layers)
    vllm     JSON Lines of responses with routed_experts (lists or base64),
             or routed experts (tokens x layers x k), .npy or .safetensors,
             a file or a folder; -1: not recorded. NAME.token_ids.npy
             beside NAME.npy: its token ids
    sglang   JSON Lines of responses with meta_info.routed_experts or
             sgl_ext.routed_experts; if they are base64, give --num-layers
             and --top-k, or --model
    tensorrt-llm
             routed experts of the MoE layers (tokens x layers x k), as the
             arrays of vllm
    route-trace
             CSV of a llama.cpp-based engine, a row a slot: turn, phase,
             step, layer, slot, expert, weight; a file or a folder. A layer
             without rows for a token: -1
    megatron router_trace_rankN.jsonl of Megatron-LM, a file or a folder
             with those of several ranks; a step of a rank is a document
    usage    counts or shares (documents x layers x experts), .npy or an .npz
             with usage and, if wanted, layers: a run without tokens
    arrays   .npz or a folder of .npy: experts (tokens x layers x k); if
             wanted, weights (the same), document, token_id, position,
             char_start, char_end (tokens), layers (layers), num_experts.
             Or Parquet, a row a token: document, token_id, position,
             char_start, char_end, lists experts_LAYER and weights_LAYER.
             -1 or null: a slot without an expert. documents.parquet beside
             it is the table of documents.

    Several inputs in one run, labelled by their names: `specialize import esft intent=DIR law=DIR -o RUN --label task`.

    `syntax` and `topics` need texts: --tokenizer decodes them from token ids, and finds the characters of the tokens.

    Or give texts with --documents, and char_start and char_end for `syntax`.
    """
    import specialize

    trace = specialize.import_trace(
        format_name,
        _read_inputs(path),
        output,
        documents=documents,
        num_experts=num_experts,
        top_k=top_k,
        layers=layers,
        num_layers=num_layers,
        label=label,
        model=model,
        tokenizer=tokenizer,
        command=command_line(),
        reporter=TERMINAL,
    )
    if as_json:
        print_json(
            {
                "run": output,
                "documents": trace.num_documents,
                "tokens": trace.num_tokens,
                "layers": len(trace.layers),
                "num_experts": trace.layers[0].num_experts,
                "top_k": trace.layers[0].top_k,
                "contents": list(trace.contents),
            }
        )
    else:
        print_trace(trace)


def _read_inputs(given: list[str]) -> str | dict[str, str]:
    """Return the input, or the inputs by name: NAME=PATH, unless a single word is the path of a file or folder."""
    if len(given) == 1 and ("=" not in given[0] or Path(given[0]).exists()):
        return given[0]
    named: dict[str, str] = {}
    for word in given:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise TraceError(f"path: expected NAME=PATH for each of several inputs, got {word!r:.100}")
        if name in named:
            raise TraceError(f"path: expected another name for each input, got {name!r:.60} twice")
        named[name] = path
    return named
