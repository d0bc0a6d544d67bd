"""The command that says what a job will take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from specialize.cli.app import RECORD, add_command
from specialize.cli.capture_options import CorpusOptions, ModelOptions, RecordingOptions, choose_corpus
from specialize.cli.console import TERMINAL, print_json, print_line
from specialize.cli.options import Json, arguments, grouped, option
from specialize.cli.tables import number, print_table, word
from specialize.planning.constants import UTILISATION
from specialize.text import NO_VALUE, format_bytes, format_duration

if TYPE_CHECKING:
    from specialize.planning.plan import Amount, Plan

_SIZE, _MACHINE = "Size", "Machine"
_MARKS = {"measured": "m", "computed": "c", "assumed": "a"}


@dataclass(frozen=True)
class SizeOptions:
    """What is planned, and of what size."""

    tokens: Annotated[
        int | None, option(_SIZE, min=1, help="Number of tokens of a corpus that is not here, instead of CORPUS.")
    ] = None
    documents: Annotated[int | None, option(_SIZE, min=1, help="Number of its documents.")] = None
    stages: Annotated[
        str, option(_SIZE, help="What is planned: trace, syntax, topics, ablate, separated by commas.")
    ] = "trace,syntax,topics,ablate"
    ablated_documents: Annotated[
        int | None, option(_SIZE, min=1, help="Documents that are run again with experts switched off. Default: all.")
    ] = None
    conditions: Annotated[
        int | None, option(_SIZE, min=1, help="Sets of experts that are switched off. Default: each expert alone.")
    ] = None


@dataclass(frozen=True)
class MachineOptions:
    """What the job runs on."""

    measure: Annotated[
        bool | None,
        option(
            _MACHINE,
            "--measure/--no-measure",
            help="Run the stages on samples of the corpus. Default: if weights and corpus are here, and no other "
            "hardware is named.",
        ),
    ] = None
    hardware: Annotated[
        str | None,
        option(
            _MACHINE, help="Accelerator of the forward passes: a100, h100, h200, b200, mi300x. Default: this machine."
        ),
    ] = None
    tflops: Annotated[
        float | None, option(_MACHINE, help="Peak of a device in bfloat16, in TFLOP/s. Default: that of the hardware.")
    ] = None
    utilisation: Annotated[float, option(_MACHINE, help="Share of the peak that forward passes reach.")] = UTILISATION
    device_memory: Annotated[
        float | None, option(_MACHINE, metavar="GB", help="Memory of a device. Default: that of the hardware.")
    ] = None
    active_parameters: Annotated[
        float | None, option(_MACHINE, help="Parameters that a token uses. Default: from the configuration.")
    ] = None
    hours: Annotated[
        float | None, option(_MACHINE, help="Wanted wall time of each stage: how many workers does it need?")
    ] = None
    price_per_hour: Annotated[float | None, option(_MACHINE, help="Price of one device for an hour.")] = None


@add_command(RECORD)
@grouped
def plan(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Checkpoint folder, config.json, or id on the Hugging Face hub.")
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CORPUS...]", help="As of `specialize trace`; or --tokens and --documents instead."),
    ] = None,
    *,
    size: SizeOptions,
    machine: MachineOptions,
    reading: CorpusOptions,
    loading: ModelOptions,
    recording: RecordingOptions,
    as_json: Json = False,
) -> None:
    """Say what tracing and measuring will take: bytes, memory, time, workers and cost, by stage.

    Where weights and corpus are here, the stages are run on samples of the corpus; otherwise the numbers come from the
    configuration of the model.
    """
    import specialize

    made = specialize.plan(
        model,
        choose_corpus(corpus) if corpus else None,
        **arguments(size, machine, reading, loading, recording),
        reporter=TERMINAL,
    )
    if as_json:
        print_json(made.as_dict())
    else:
        _print_plan(made)


def _print_plan(made: "Plan") -> None:
    model = made.architecture
    sizes = [
        f"{_large(size)} {what}"
        for size, what in ((model.parameters, "parameters"), (model.active_parameters, "active"))
        if size is not None
    ]
    print_line(
        f"{model.name}: {len(model.moe_layers)} routers, E = {model.num_experts}, k = {model.top_k}"
        + "".join(f", {each}" for each in sizes)
    )
    print_line(
        f"{made.corpus or 'corpus'}: {_show(made.documents, _count)} documents, {_show(made.tokens, _count)} tokens"
    )
    print_line("")
    _print_stages(made)
    print_line("")
    rows = [
        (stage.name, part, _show(amount, format_bytes)) for stage in made.stages for part, amount in stage.disk.items()
    ]
    print_table("on disk", [word("stage"), word("what"), number("bytes")], rows)
    print_line("")
    print_line("m measured on this machine, c computed, a assumed:")
    for line in made.assumptions:
        print_line(f"- {line}")


def _print_stages(made: "Plan") -> None:
    columns = [
        word("stage"),
        number("time of\none worker"),
        number("memory\nof the host"),
        number("memory of\ndevices"),
    ]
    columns += [number("devices\na worker"), number("device\nhours")]
    rows: list[list[object]] = []
    for stage in made.stages:
        used = stage.devices if stage.device is not None else NO_VALUE
        rows.append(
            [
                stage.name,
                _show(stage.seconds, format_duration),
                _show(stage.host, format_bytes),
                _show(stage.device, format_bytes),
                used,
                _show(stage.device_hours, _hours),
            ]
        )
    rows.append(["all", _show(made.seconds, format_duration), "", "", "", _show(made.device_hours, _hours)])
    if made.hours is not None:
        columns.append(number(f"workers\nfor {made.hours:g} h"))
        _append(rows, [NO_VALUE if stage.workers is None else f"{stage.workers:,}" for stage in made.stages] + [""])
    if (price := made.price_per_hour) is not None:
        columns.append(number("cost"))
        _append(rows, [_show(cost, _money) for cost in (*(stage.cost(price) for stage in made.stages), made.cost)])
    columns.append(number("on disk"))
    _append(rows, [_show(stage.bytes, format_bytes) for stage in made.stages] + [_show(made.bytes, format_bytes)])
    print_table(None, columns, rows)


def _append(rows: "list[list[object]]", cells: "Sequence[object]") -> None:
    for row, cell in zip(rows, cells, strict=True):
        row.append(cell)


def _show(amount: "Amount | None", write: "Callable[[float], str]") -> str:
    return NO_VALUE if amount is None else f"{write(amount.value)} {_MARKS[amount.basis]}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _large(value: float) -> str:
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:,.0f}"


def _hours(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _money(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
