"""Kernels that count how far the experts of a token id's occurrences overlap."""

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True)
def note_groups(seen_in, several, ids, groups):  # type: ignore[no-untyped-def]
    """Note which ids occur in more than one group; ``seen_in`` has the first group of each, -1 before it occurs."""
    for token in range(len(ids)):
        if seen_in[ids[token]] < 0:
            seen_in[ids[token]] = groups[token]
        elif seen_in[ids[token]] != groups[token]:
            several[ids[token]] = True


@njit(cache=True, nogil=True, inline="always")
def _add_experts(counts, experts):  # type: ignore[no-untyped-def]
    """Count the experts of a token; return how much this adds to the sum of squares of the counts."""
    added = 0
    for expert in experts:
        if expert >= 0:
            added += 2 * counts[expert] + 1
            counts[expert] += 1
    return added


@njit(cache=True, nogil=True, inline="always")
def _remove_experts(counts, experts):  # type: ignore[no-untyped-def]
    for expert in experts:
        if expert >= 0:
            counts[expert] = 0


@njit(cache=True, nogil=True)
def count_runs(totals, tokens, experts, rows):  # type: ignore[no-untyped-def]
    """Add tokens, sorted by group and id, to the counts of `TokenExperts`.

    ``tokens`` are ids, order and runs, see `RepeatedTokens.sort`; ``rows`` has the row of each token in the counts.
    """
    counts, inside, pairs, sizes = totals
    ids, order, runs = tokens
    within = np.zeros(counts.shape[2], dtype=np.int64)
    for run in range(len(runs) - 1):
        first, end = runs[run], runs[run + 1]
        row, word = rows[order[first]], ids[first]
        if row < 0:
            continue
        squares = 0
        for place in range(first, end):
            squares += _add_experts(within, experts[order[place]])
            for expert in experts[order[place]]:
                if expert >= 0:
                    counts[row, word, expert] += 1
        for place in range(first, end):
            _remove_experts(within, experts[order[place]])
        inside[row, word] += squares
        pairs[row, word] += (end - first) ** 2
        sizes[row, word] += end - first


@njit(cache=True, nogil=True, parallel=True)
def count_shifted(counts, inside, tokens, experts, documents, starts, shifts):  # type: ignore[no-untyped-def]
    """Add tokens to ``counts`` and ``inside`` of each permutation, with token ids shifted within documents."""
    ids, order, runs = tokens
    for permutation in prange(len(shifts)):
        within = np.zeros(counts.shape[2], dtype=np.int64)
        rows = np.empty(len(order), dtype=np.int64)
        for run in range(len(runs) - 1):
            word, squares = ids[runs[run]], 0
            for place in range(runs[run], runs[run + 1]):
                document = documents[order[place]]
                row = order[place] + shifts[permutation, document]
                if row >= starts[document + 1]:
                    row -= starts[document + 1] - starts[document]
                rows[place] = row
                for expert in experts[row]:
                    if expert >= 0:
                        squares += 2 * within[expert] + 1
                        within[expert] += 1
                        counts[permutation, word, expert] += 1
            for place in range(runs[run], runs[run + 1]):
                _remove_experts(within, experts[rows[place]])
            inside[permutation, word] += squares


@njit(cache=True, nogil=True, inline="always")
def _add_mean(target, overlap, pairs, tokens):  # type: ignore[no-untyped-def]
    """Add the mean overlap of an id, weighted by tokens, and the tokens, where the id has pairs."""
    if pairs > 0:
        target[0] += tokens * overlap / pairs
        target[1] += tokens


@njit(cache=True, nogil=True, inline="always")
def _square(counts):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for count in counts:
        total += np.int64(count) * np.int64(count)
    return total


@njit(cache=True, nogil=True)
def add_all(target, counts, inside, pairs, sizes):  # type: ignore[no-untyped-def]
    """Add the overlaps of all ids, weighted by tokens, and the tokens.

    Overlaps and pairs within groups are subtracted from those of all tokens; that each pair is counted twice, and each
    token with itself, cancels in their ratio.
    """
    for word in range(len(sizes)):
        _add_mean(target, _square(counts[word]) - inside[word], sizes[word] ** 2 - pairs[word], sizes[word])


@njit(cache=True, nogil=True)
def leave_out(target, whole, lost):  # type: ignore[no-untyped-def]
    """Add how the overlaps change without a block; ``whole`` and ``lost`` are counts, as of `add_all`."""
    counts, inside, pairs, sizes = whole
    lost_counts, lost_inside, lost_pairs, lost_sizes = lost
    for word in range(len(sizes)):
        if lost_sizes[word] == 0:
            continue
        left, remaining = sizes[word] - lost_sizes[word], np.int64(0)
        for expert in range(counts.shape[1]):
            remaining += (np.int64(counts[word, expert]) - np.int64(lost_counts[word, expert])) ** 2
        within = inside[word] - lost_inside[word]
        _add_mean(target, remaining - within, left**2 - (pairs[word] - lost_pairs[word]), left)
        _add_mean(target, _square(counts[word]) - inside[word], sizes[word] ** 2 - pairs[word], -sizes[word])
