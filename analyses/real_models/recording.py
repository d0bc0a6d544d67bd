"""The recording of gpt-oss-20b as a run, with the labels of its tokens and documents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import specialize
from specialize.annotators import annotate_column, load_annotation
from specialize.measure import Estimate
from specialize.trace import RoutingTrace, open_trace

FOLDER = "gpt_oss_20b"
EXPERTS = 32


@dataclass(frozen=True)
class Corpus:
    """The trace and the labels of its tokens and documents.

    Attributes:
        trace: the trace.
        tokens: its tokens.
        documents: integers [tokens].
        tags: integers [tokens], the part of speech; -1 where there is none.
        names: names of the tags.
        field, category: integers [documents], field and subject of the question; -1 where there is none.
    """

    trace: RoutingTrace
    tokens: pd.DataFrame
    documents: NDArray[np.integer]
    tags: NDArray[np.integer]
    names: tuple[str, ...]
    field: NDArray[np.integer]
    category: NDArray[np.integer]


def import_routing(data: Path, run: Path) -> None:
    """Import the recording into a run folder, unless it is there."""
    if not (run / "trace").is_dir():
        specialize.import_trace(
            "arrays",
            data / FOLDER / "routing.npz",
            run,
            documents=data / FOLDER / "documents.parquet",
            num_experts=EXPERTS,
        )


def read_corpus(run: Path) -> Corpus:
    """Read the trace with part of speech, field and subject."""
    trace = open_trace(run)
    tokens, upos = trace.tokens(), load_annotation(trace, "upos")
    field, category = (annotate_column(trace.documents(), name).codes for name in ("field", "category"))
    return Corpus(trace, tokens, tokens["document"].to_numpy(), upos.codes, upos.labels, field, category)


def describe(found: Estimate, **about: Any) -> dict[str, Any]:
    """Return an estimate as a row, beside what it is about."""
    named = ("value", "unit", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value", "n_tokens", "n_documents")
    return about | {name: getattr(found, name) for name in named}
