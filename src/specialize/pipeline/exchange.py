"""A trace for other tools, the affinity of experts to a corpus, and the check of a trace."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.choices import AffinityScore, ExportFormat, check_choice
from specialize.errors import MeasurementError, TraceError, did_you_mean
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import open_run
from specialize.remote.places import at_addresses
from specialize.text import list_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from specialize.measure.runs.affinity import LayerAffinity
    from specialize.trace import RoutingTrace
    from specialize.trace.validate import Check


@at_addresses(run="measured", folder="files")
def export(
    run: "str | PathLike[str] | RoutingTrace",
    folder: str | PathLike[str] | None = None,
    *,
    to: ExportFormat = "parquet",
    reporter: Reporter = SILENT,
) -> Path:
    """Write a trace as Parquet: documents, tokens with their text, and a row for each slot of each token.

    Args:
        run: a run folder or its address, or its open trace.
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
    trace = open_run(run, tokens_for="export")
    with reporter.progress("exporting", "tokens") as update:
        return export_parquet(trace, trace.path / to if folder is None else Path(folder), progress=update)


@at_addresses(run="read")
def affinity(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    top_p: float = 0.2,
    by: AffinityScore = "token",
    label: str | None = None,
    reporter: Reporter = SILENT,
) -> "list[LayerAffinity]":
    """Find which experts of each layer a corpus needs most, as ESFT scores them (Wang et al. 2024).

    Args:
        run: a run folder or its address, or its open trace.
        top_p: share that the selected experts reach together, above 0 and at most 1.
        by: token, the share of slots, or gate, the mean gate weight.
        label: known label of documents, to score those of each of its values apart, as tasks; default: all together.
        reporter: receives progress.

    Returns:
        The scores and the selected experts of each layer, and of each value of the label.

    Raises:
        TraceError: there is no trace, or it holds no gate weights where they are needed.
        MeasurementError: a value is out of range, or there is no such label.
    """
    from specialize.measure.runs.affinity import measure_affinity

    check_choice("by", by, AffinityScore, error=MeasurementError)
    trace = open_run(run, tokens_for="affinity")
    parts = None if label is None else _tokens_by_value(trace, label)
    with reporter.progress("affinity", "layers") as update:
        return list(measure_affinity(trace, top_p=top_p, by=by, parts=parts, progress=update))


def _tokens_by_value(trace: "RoutingTrace", label: str) -> "dict[str, NDArray[np.bool_]]":
    """Return which tokens are in documents of each value of a label, bool [tokens]; only values that have tokens."""
    documents = trace.documents(labels_only=True)
    known = [name for name in documents if name != "id"]
    if label not in known:
        raise MeasurementError(
            f"label: expected a known label of the documents ({list_names(known)}), got {label!r:.60}."
            f"{did_you_mean(label, known)}"
        )
    values = documents[label].to_numpy()[trace.tokens(["document"])["document"].to_numpy()]
    found = sorted({value for value in values if isinstance(value, str)})
    if not found:
        raise MeasurementError(f"label: expected values of {label!r:.60} in documents with tokens, got none")
    return {value: values == value for value in found}


def validate(run: "str | PathLike[str] | RoutingTrace") -> "list[Check]":
    """Check a trace against its manifest: presence, checksums, counts.

    Args:
        run: a run folder or its address, complete or not, or its open trace.

    Returns:
        What was found of each file; `problem` is None where nothing is wrong.

    Raises:
        TraceError: there is no trace in the folder.
    """
    from specialize.trace import RoutingTrace, validate_trace

    return validate_trace(run.path if isinstance(run, RoutingTrace) else run)
