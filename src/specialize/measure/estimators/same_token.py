"""Same token, other route: how far occurrences of one token id choose the same experts in different documents."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import TokenBlocks, block_tokens, check_order, divide, group_documents
from specialize.measure.base.counting import as_codes, check_distinct, check_range
from specialize.measure.base.estimate import Estimate, correct_bias, make_estimates
from specialize.measure.base.nulls import draw_shifts

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
    ids, chosen, places = as_codes(types), np.ascontiguousarray(experts, dtype=np.int16), as_codes(documents)
    if chosen.ndim != 2 or not len(ids) == len(chosen) == len(places):
        raise MeasurementError(
            "types, experts [tokens, k] and documents must be of one length, "
            f"got {len(ids)}, {list(chosen.shape)} and {len(places)}"
        )
    check_range("experts", chosen, num_experts)
    check_distinct("experts", chosen)
    check_order(places)
    own = np.unique(group_documents(places, groups), return_inverse=True)[1]
    kept = find_repeated(ids, own, (ids >= 0) & (chosen >= 0).any(axis=1))
    if not kept.any():
        raise MeasurementError("expected a token id that occurs in two documents, got none: trace more text")
    cut = block_tokens(places[kept], groups=groups, num_blocks=num_blocks)
    tokens = RepeatedTokens.sort(ids[kept], own[kept], chosen[kept], cut)
    values = tokens.overlaps(num_experts)
    null = tokens.permute(permutations=permutations, seed=seed)
    nulls = {"same": null, "any": None, "difference": null - values[-1, 1]}  # the pairs of any tokens do not change
    columns = dict(zip(nulls, np.column_stack([values, values[:, 0] - values[:, 1]]).T, strict=True))
    estimates = {}
    for name, column in columns.items():
        error = correct_bias(column[-1], column[:-1], axis=0)[1] if cut.num_blocks > 1 else np.asarray(np.nan)
        estimates[name] = make_estimates(
            column[-1],
            error,
            unit=UNIT,
            num_blocks=cut.num_blocks,
            null=nulls[name],
            n_tokens=int(kept.sum()),
            n_documents=len(cut.blocks),
        )[()]
    return SameToken(**estimates)


@dataclass(frozen=True)
class RepeatedTokens:
    """Tokens whose id occurs in several groups of documents, sorted by id, then by group.

    Attributes:
        experts: int16 [tokens, k], in the order of the corpus.
        order: place of each sorted token in the corpus, int64 [tokens].
        starts: first sorted token of each id, and the number of tokens, int64 [ids + 1].
        groups: group of documents of each token, in the order of the corpus, int64 [tokens].
        cut: document and block of each token, in the order of the corpus.
    """

    experts: NDArray[np.int16]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    groups: NDArray[np.int64]
    cut: TokenBlocks

    @classmethod
    def sort(
        cls, ids: NDArray[np.int32], groups: NDArray[np.int64], experts: NDArray[np.int16], cut: TokenBlocks
    ) -> "RepeatedTokens":
        """Sort tokens whose ids, groups and experts are given in the order of the corpus."""
        # groups of documents are whole in a block, so that this is an order of groups within blocks
        order = np.lexsort((groups, cut.token_blocks, ids))
        begins = np.flatnonzero(np.diff(ids[order], prepend=-1))
        return cls(experts, order, np.append(begins, len(ids)), groups, cut)

    def overlaps(self, num_experts: int) -> NDArray[np.float64]:
        """Compute the overlap of tokens of one id and of any tokens, without each block and overall, [block + 1, 2]."""
        blocks, everything = self.cut.token_blocks, np.array([0, len(self.order)])
        shares = []
        for order, starts in (
            (self.order, self.starts),
            (np.lexsort((self.groups, blocks)), everything),
        ):
            sums = np.zeros((self.cut.num_blocks + 1, 2))
            _add_overlaps(sums, self.experts[order], self.groups[order], blocks[order], starts, num_experts)
            shares.append(divide(sums[:, 0], self.experts.shape[1] * sums[:, 1]))
        return np.stack(shares, axis=-1)

    def permute(self, *, permutations: int, seed: int) -> NDArray[np.float64]:
        """Compute the overlap of tokens of one id with ids shifted within documents, float64 [permutation]."""
        documents = self.cut.documents
        first = np.searchsorted(documents, np.arange(len(self.cut.blocks) + 1))
        shifts = draw_shifts(np.diff(first), permutations=permutations, seed=seed)
        sums = np.zeros((permutations, 2))
        _add_shifted(sums, self.experts, self.order, self.groups, self.starts, documents, first, shifts)
        return divide(sums[:, 0], self.experts.shape[1] * sums[:, 1])


def find_repeated(
    types: NDArray[np.integer], groups: NDArray[np.integer], usable: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find the tokens whose id occurs in at least two groups of documents.

    Args:
        types: integers [tokens], token ids; not negative where usable.
        groups: integers [tokens], the group of documents of each token.
        usable: bool [tokens], the tokens to count.

    Returns:
        bool [tokens], a part of the usable ones.
    """
    ids, places = (np.unique(each[usable], return_inverse=True)[1].astype(np.int64) for each in (types, groups))
    num_places = int(places.max(initial=0)) + 1
    pairs = np.unique(ids * num_places + places)
    held_in = np.bincount(pairs // num_places)
    kept = usable.copy()
    kept[usable] = held_in[ids] > 1
    return kept


@njit(cache=True, nogil=True, inline="always")
def _add_experts(counts, experts):  # type: ignore[no-untyped-def]
    """Count the experts of a token; return how much this adds to the sum of squares of the counts."""
    added = 0
    for expert in experts:
        if expert >= 0:
            added += 2 * counts[expert] + 1
            counts[expert] += 1
    return added


@njit(cache=True, nogil=True)
def _scan_block(experts, groups, blocks, first, end, counts, within):  # type: ignore[no-untyped-def]
    """Count the experts of the tokens of one id in one block, whose first token is given.

    Returns the token after the last one, and the overlaps and the pairs of tokens within its groups, both as sums of
    squares. ``within`` is working memory.
    """
    token, squares, pairs = first, 0, 0
    counts[:] = 0
    while token < end and blocks[token] == blocks[first]:
        begin = token
        within[:] = 0
        while token < end and groups[token] == groups[begin]:  # a group is whole in a block
            squares += _add_experts(within, experts[token])
            _add_experts(counts, experts[token])
            token += 1
        pairs += (token - begin) ** 2
    return token, squares, pairs


@njit(cache=True, nogil=True)
def _add_overlaps(sums, experts, groups, blocks, starts, num_experts):  # type: ignore[no-untyped-def]
    """Add overlaps, weighted by tokens, and tokens to ``sums`` [block + 1, 2]: without each block, overall.

    Tokens are sorted by id, block and group. Overlaps and pairs within groups are subtracted from those of all tokens;
    that each pair is counted twice, and each token with itself, cancels in their ratio.
    """
    last = len(sums) - 1
    counts = np.zeros(num_experts, dtype=np.int64)
    lost, within = np.zeros_like(counts), np.zeros_like(counts)
    for word in range(len(starts) - 1):
        first, end = starts[word], starts[word + 1]
        counts[:] = 0
        squares = 0
        for token in range(first, end):
            squares += _add_experts(counts, experts[token])
        size, inside, inside_pairs, run = end - first, 0, 0, first
        while run < end:
            run, own, own_pairs = _scan_block(experts, groups, blocks, run, end, lost, within)
            inside += own
            inside_pairs += own_pairs
        whole, pairs = squares - inside, size**2 - inside_pairs
        _add_mean(sums[last], whole, pairs, size)
        run = first
        while run < end:  # without a block, only its ids change
            block = blocks[run]
            stop, own, own_pairs = _scan_block(experts, groups, blocks, run, end, lost, within)
            left, remaining = size - (stop - run), 0
            for expert in range(num_experts):
                remaining += (counts[expert] - lost[expert]) ** 2
            _add_mean(sums[block], remaining - (inside - own), left**2 - (inside_pairs - own_pairs), left)
            _add_mean(sums[block], whole, pairs, -size)
            run = stop
    for block in range(last):
        sums[block] += sums[last]


@njit(cache=True, nogil=True, inline="always")
def _add_mean(target, overlap, pairs, tokens):  # type: ignore[no-untyped-def]
    """Add the mean overlap of an id, weighted by tokens, and the tokens, where the id has pairs."""
    if pairs > 0:
        target[0] += tokens * overlap / pairs
        target[1] += tokens


@njit(cache=True, nogil=True, parallel=True)
def _add_shifted(sums, experts, order, groups, starts, documents, first, shifts):  # type: ignore[no-untyped-def]
    """Add overlaps and tokens to ``sums`` [permutation, 2], with token ids shifted within documents."""
    num_experts = experts.max() + 1
    for permutation in prange(len(sums)):
        counts, within = np.zeros(num_experts, dtype=np.int64), np.zeros(num_experts, dtype=np.int64)
        for word in range(len(starts) - 1):
            counts[:] = 0
            within[:] = 0
            squares, inside, pairs, begin = 0, 0, 0, starts[word]
            for place in range(starts[word], starts[word + 1]):
                if groups[order[place]] != groups[order[begin]]:
                    pairs += (place - begin) ** 2
                    begin = place
                    within[:] = 0
                document = documents[order[place]]
                row = order[place] + shifts[permutation, document]
                if row >= first[document + 1]:
                    row -= first[document + 1] - first[document]
                squares += _add_experts(counts, experts[row])
                inside += _add_experts(within, experts[row])
            size = starts[word + 1] - starts[word]
            pairs += (starts[word + 1] - begin) ** 2
            _add_mean(sums[permutation], squares - inside, size**2 - pairs, size)
