"""Routing to and from other tools, and the affinity of experts to a corpus."""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.choices import AffinityScore, ExportFormat, check_choice
from specialize.errors import MeasurementError, TraceError
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import open_run

if TYPE_CHECKING:
    from specialize.measure.runs.affinity import LayerAffinity
    from specialize.trace import RoutingTrace
    from specialize.trace.validate import Check


def import_trace(
    format_name: str,
    path: str | PathLike[str],
    run: str | PathLike[str],
    *,
    documents: str | PathLike[str] | None = None,
    num_experts: int | None = None,
    top_k: int | None = None,
    layers: str | Sequence[int] | None = None,
    num_layers: int | None = None,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> "RoutingTrace":
    """Make a run folder of routing that another tool recorded.

    Args:
        format_name: esft, olmoe, vllm, sglang or arrays.
        path: a file of that format, or a folder of them.
        run: the run folder to make; it is there whole, or not at all.
        documents: table of the documents: id, text, labels. By row, or by id where the format has ids.
        num_experts: experts of a layer; by default the largest id + 1.
        top_k: slots of a token, where the format does not say.
        layers: numbers of the MoE layers, or text such as ``1-26`` or ``0,2,4``; all, from 0, by default.
        num_layers: layers in each response, dense ones included (sglang).
        command: the command line, for the manifest.
        reporter: receives what was inferred, and progress.

    Returns:
        The trace, open.

    Raises:
        TraceError: an unknown format, or an input that cannot be read, is empty or contradicts itself.
        CorpusError: the table of documents cannot be read.
        OutputError: the run folder is not empty or cannot be written.
    """
    from specialize.trace.imports import import_trace as write_import

    return write_import(
        format_name,
        path,
        run,
        documents=documents,
        num_experts=num_experts,
        top_k=top_k,
        layers=read_layers(layers) if isinstance(layers, str) else layers,
        num_layers=num_layers,
        command=command,
        reporter=reporter,
    )


def read_layers(text: str) -> tuple[int, ...]:
    """Read numbers of layers as a user writes them: 1-26, or 0,2,4.

    Raises:
        TraceError: it is not that, or a number comes twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None:
            raise TraceError(f"layers: expected numbers such as 1-26 or 0,2,4, got {text!r}")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers or len(set(numbers)) < len(numbers):
        raise TraceError(f"layers: expected every layer once, got {text!r}")
    return tuple(numbers)


def export(
    run: "str | PathLike[str] | RoutingTrace",
    folder: str | PathLike[str] | None = None,
    *,
    to: ExportFormat = "parquet",
    reporter: Reporter = SILENT,
) -> Path:
    """Write a trace as Parquet: documents, tokens with their text, and a row for each slot of each token.

    Args:
        run: a run folder, or its open trace.
        folder: where to write; RUN/parquet by default.
        to: the format.
        reporter: receives progress.

    Returns:
        The folder.

    Raises:
        TraceError: there is no trace, or an unknown format.
        OutputError: the folder cannot be written.
    """
    from specialize.trace.export import export_parquet

    check_choice("to", to, ExportFormat, error=TraceError)
    trace = open_run(run)
    with reporter.progress("exporting", "tokens") as update:
        return export_parquet(trace, trace.path / to if folder is None else Path(folder), progress=update)


def affinity(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    top_p: float = 0.2,
    by: AffinityScore = "token",
    reporter: Reporter = SILENT,
) -> "list[LayerAffinity]":
    """Find which experts of each layer a corpus needs most, as ESFT scores them (Wang et al. 2024).

    Args:
        run: a run folder, or its open trace.
        top_p: share that the selected experts reach together, above 0 and at most 1.
        by: token, the share of slots, or gate, the mean gate weight.
        reporter: receives progress.

    Returns:
        The scores and the selected experts of each layer.

    Raises:
        TraceError: there is no trace, or it holds no gate weights where they are needed.
        MeasurementError: a value is out of range.
    """
    from specialize.measure.runs.affinity import measure_affinity

    check_choice("by", by, AffinityScore, error=MeasurementError)
    trace = open_run(run)
    with reporter.progress("affinity", "layers") as update:
        return list(measure_affinity(trace, top_p=top_p, by=by, progress=update))


def validate(run: "str | PathLike[str] | RoutingTrace") -> "list[Check]":
    """Check a trace against its manifest: presence, checksums, counts.

    Args:
        run: a run folder, complete or not, or its open trace.

    Returns:
        What was found of each file; `problem` is None where nothing is wrong.

    Raises:
        TraceError: there is no trace in the folder.
    """
    from specialize.trace import RoutingTrace, validate_trace

    return validate_trace(run.path if isinstance(run, RoutingTrace) else Path(run))
