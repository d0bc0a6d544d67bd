"""Same token, other route: how far occurrences of one token id choose the same experts in different documents."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from specialize.errors import MeasurementError
from specialize.measure.base.counting import as_codes
from specialize.measure.base.estimate import Estimate, correct_bias, make_estimates
from specialize.measure.base.layer_input import LayerInput, block_documents
from specialize.measure.estimators.repeated_tokens import RepeatedTokens, TokenExperts, find_repeated

UNIT = "share of slots"


@dataclass(frozen=True)
class SameToken:
    """Mean overlap of the experts of two tokens in different documents.

    Attributes:
        same: of tokens with the same id. Null: token ids circularly shifted within their document.
        any: of any two of the same tokens.
        difference: same − any. Null as for `same`.
    """

    same: Estimate
    any: Estimate
    difference: Estimate


def measure_same_token(
    types: ArrayLike,
    experts: ArrayLike,
    documents: ArrayLike,
    *,
    num_experts: int,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> SameToken:
    """Measure the overlap ``|A & B| / k`` of the experts of two occurrences of one token id in different documents.

    Counted are routed tokens whose id occurs in at least two documents (in two groups, where documents belong
    together). For a token, the overlap is averaged over all occurrences of its id in other documents; the mean is over
    pairs within an id, and over ids weighted by their number of tokens. A slot without an expert is a mismatch.

    Pairs are not visited: the sum over the pairs of an id is (sum_e N(e)² − sum_d sum_e N(d, e)²) / 2, with N(e) the
    tokens of the id that chose expert e, and N(d, e) those in document d. The overlap of any two tokens is the same
    with all tokens as one id.

    The null shifts token ids within their document against the routing, which preserves what a document is about. The
    p-value is one-sided, of a larger overlap.

    Args:
        types: integers [tokens], token ids; negative where unknown.
        experts: integers [tokens, k], distinct within a token; negative where a slot holds no expert.
        documents: integers [tokens], the document of each token, non-decreasing.
        num_experts: number of experts of the layer.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The estimates, as counted, with jackknife intervals over document blocks.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, a token has an expert twice, or no
            token id occurs in two documents.
    """
    if np.ndim(experts) != 2 or not len(np.asarray(types)) == len(np.asarray(experts)) == len(np.asarray(documents)):
        raise MeasurementError(
            "types, experts [tokens, k] and documents must be of one length, "
            f"got {len(np.asarray(types))}, {list(np.shape(experts))} and {len(np.asarray(documents))}"
        )
    layer = LayerInput.of(experts, documents, num_experts=num_experts, groups=groups)
    measured = compare_same_tokens(layer, as_codes(types), permutations=permutations, num_blocks=num_blocks, seed=seed)
    if measured is None:
        raise MeasurementError("expected a token id that occurs in two documents, got none: trace more text")
    return measured


def compare_same_tokens(
    layer: LayerInput, types: Any, *, permutations: int = 200, num_blocks: int = 50, seed: int = 0
) -> SameToken | None:
    """Measure the overlap of occurrences of a token id, as `measure_same_token`, part by part.

    Args:
        layer: the routing decisions, in memory or on disk.
        types: integers [tokens], token ids, in memory or as a column.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks.
        seed: seed of the null.

    Returns:
        The estimates; None if no token id occurs in two documents.
    """
    kept = find_repeated([layer], types)
    if kept is None:
        return None
    blocks = block_documents(kept.lengths > 0, layer.groups, num_blocks=num_blocks)
    with kept, RepeatedTokens(kept, blocks) as tokens, TokenExperts(tokens, layer) as experts:
        values = experts.overlaps()
        null = experts.permute(permutations=permutations, seed=seed)
    nulls = {"same": null, "any": None, "difference": null - values[-1, 1]}  # the pairs of any tokens do not change
    columns = dict(zip(nulls, np.column_stack([values, values[:, 0] - values[:, 1]]).T, strict=True))
    estimates, size = {}, len(values) - 1
    for name, column in columns.items():
        error = correct_bias(column[-1], column[:-1], axis=0)[1] if size > 1 else np.asarray(np.nan)
        estimates[name] = make_estimates(
            column[-1],
            error,
            unit=UNIT,
            num_blocks=size,
            null=nulls[name],
            n_tokens=int(kept.lengths.sum()),
            n_documents=int(np.count_nonzero(kept.lengths)),
        )[()]
    return SameToken(**estimates)
