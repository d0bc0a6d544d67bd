"""Whether syntax and subject take turns over the layers of gpt-oss-20b, on documents that did not choose the layers."""

import numpy as np
import pandas as pd
from analyses.real_models.recording import EXPERTS, Corpus, describe
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL
from specialize.measure import (
    Estimate,
    assign_blocks,
    count_blocks,
    estimate_difference,
    pseudo_values,
    uncertainty_coefficient,
)
from specialize.measure.base.estimate import correct_bias, make_estimates


def measure_turns(corpus: Corpus) -> pd.DataFrame:
    """Test that syntax is stronger early and late and the subject in the middle, and correlate both over the layers.

    One half of the documents chooses three layers: that of the largest U of the subject, and those of the largest U of
    syntax before and after it. The other half gives the differences between them. The correlation is that of the two
    curves over all layers, with an interval over blocks of documents.
    """
    halves = np.arange(corpus.trace.num_documents) % 2
    tables = {
        (about, half): _stack_blocks(
            corpus, about, np.ones_like(halves, dtype=bool) if half is None else halves == half
        )
        for about in ("syntax", "subject")
        for half in (0, 1, None)
    }
    together = estimate_correlation(tables["syntax", None], tables["subject", None])
    rows = [describe(together, about="correlation over layers")]
    for choosing in (0, 1):
        curves = {
            about: uncertainty_coefficient(tables[about, choosing].sum(axis=1)) for about in ("syntax", "subject")
        }
        peak = int(curves["subject"].argmax())
        early, late = int(curves["syntax"][:peak].argmax()), peak + 1 + int(curves["syntax"][peak + 1 :].argmax())
        for about in ("syntax", "subject"):
            values = [pseudo_values(table, uncertainty_coefficient) for table in tables[about, 1 - choosing]]
            for end in (early, late):
                found = estimate_difference(values[end], values[peak], unit="share of H(label)").difference
                rows.append(describe(found, about=about, layer=end, compared_with=peak, measured_in_half=1 - choosing))
    return pd.DataFrame(rows)


def estimate_correlation(syntax: NDArray[np.float64], subject: NDArray[np.float64]) -> Estimate:
    """Estimate the correlation over layers of U of two labels.

    Args:
        syntax: counts of the one label, float64 [layer, block, label, expert].
        subject: counts of the other label in the same blocks.
    """

    def correlate(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(np.corrcoef(uncertainty_coefficient(first), uncertainty_coefficient(second))[0, 1])

    first, second, count = syntax.sum(axis=1), subject.sum(axis=1), syntax.shape[1]
    without = np.array([correlate(first - syntax[:, block], second - subject[:, block]) for block in range(count)])
    value, error = correct_bias(np.array(correlate(first, second)), without, axis=0)
    return make_estimates(value, error, unit="correlation", num_blocks=count, n_tokens=None, n_documents=None)[()]


def _stack_blocks(corpus: Corpus, about: str, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.stack([_blocks(corpus, router.name, about, chosen) for router in corpus.trace.routers])


def _blocks(corpus: Corpus, router: str, about: str, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count label by expert in blocks of the chosen documents, float64 [block, label, expert].

    For the subject, each document has a mass of 1, however long it is.
    """
    labelled = np.flatnonzero(chosen & (corpus.field != NO_LABEL))
    blocks = np.full(len(chosen), NO_LABEL)
    blocks[labelled] = assign_blocks(labelled)
    kept = blocks[corpus.documents] >= 0
    experts, documents, num_blocks = corpus.trace.experts(router)[kept], corpus.documents[kept], int(blocks.max()) + 1
    if about == "syntax":
        return count_blocks(
            corpus.tags[kept], experts, blocks=blocks[documents],
            num_labels=len(corpus.names), num_experts=EXPERTS, num_blocks=num_blocks,
        )  # fmt: skip
    usage = count_blocks(
        np.zeros(len(documents), dtype=np.int32), experts, blocks=np.searchsorted(labelled, documents),
        num_labels=1, num_experts=EXPERTS, num_blocks=len(labelled),
    )  # fmt: skip
    tables = np.zeros((num_blocks, int(corpus.field.max()) + 1, EXPERTS))
    np.add.at(tables, (blocks[labelled], corpus.field[labelled]), usage[:, 0] / usage.sum(axis=(1, 2))[:, None])
    return tables
