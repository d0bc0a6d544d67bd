"""Sums of quantities of tokens by label and block of documents, and the same under the null."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.choices import Level, check_choice
from specialize.errors import MeasurementError
from specialize.measure.base.blocks import Counted, assign_blocks, check_order, group_documents
from specialize.measure.base.counting import as_codes, check_range
from specialize.measure.base.layer_input import cut_rows
from specialize.measure.base.nulls import permuted_tables, shifted_tables
from specialize.measure.base.random import Seed
from specialize.measure.base.units import ObservedParts, Part, Units, tabulate_units
from specialize.measure.estimators.observed import observe_units

FEWEST_TOKENS, FEWEST_BLOCKS = 100, 10  # that hold the tokens of a mean, from analyses/calibration/function.py
UNDERCOVERS = f"undercovers: below {FEWEST_TOKENS} tokens or {FEWEST_BLOCKS} blocks"


@dataclass(frozen=True)
class LabelledSums:
    """Labelled tokens or documents, with quantities that are summed by label.

    Attributes:
        observations: one unit for each token or document, with its sums as masses; in memory or read part by part.
        num_quantities: number of quantities.
        level: whether labels are of documents or of tokens.
        num_labels: number of labels of the label set.
        counts: numbers of tokens and documents.
    """

    observations: Units
    num_quantities: int
    level: Level
    num_labels: int
    counts: Counted

    @property
    def num_blocks(self) -> int:
        """Number of document blocks."""
        return self.observations.num_blocks

    def tables(self) -> NDArray[np.float64]:
        """Sum the values of each label, float64 [block, label, quantity]."""
        return tabulate_units(self.observations, shape=self._shape(self.observations))

    def permuted(
        self, *, permutations: int, seed: Seed, pooled: bool = True
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield batches of `tables` [permutation, block, label, quantity] under the null.

        Labels of documents are permuted across documents, labels of tokens are shifted within documents.

        Args:
            permutations: number of permutations.
            seed: seed of the permutations.
            pooled: whether all documents are in one block.
        """
        seen: Any = self.observations
        if pooled:
            seen = replace(seen, blocks=np.zeros_like(seen.blocks))
        draw: Any = shifted_tables if self.level == "token" else permuted_tables
        batches: Iterator[tuple[slice, NDArray[np.float64]]] = draw(
            seen, shape=self._shape(seen), permutations=permutations, seed=seed
        )
        return batches

    def under_null(
        self,
        statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        *,
        permutations: int,
        seed: int,
    ) -> NDArray[np.float64]:
        """Compute a statistic of `permuted` tables.

        Args:
            statistic: maps sums [..., label, quantity] to values [..., *shape].
            permutations: number of permutations.
            seed: seed of the null.

        Returns:
            float64 [permutation, *shape].
        """
        found = [statistic(tables[:, 0]) for _, tables in self.permuted(permutations=permutations, seed=seed)]
        return np.concatenate(found) if found else np.empty((0, *statistic(self.tables().sum(axis=0)).shape))

    def _shape(self, seen: Units) -> tuple[int, int, int]:
        return seen.num_blocks, self.num_labels, self.num_quantities


def sum_labels(
    values: NDArray[np.float64],
    codes: ArrayLike,
    documents: ArrayLike,
    *,
    level: Level,
    num_labels: int,
    groups: ArrayLike | None,
    num_blocks: int,
) -> LabelledSums:
    """Check labels and values of tokens, and keep the labelled tokens whose values are finite.

    Args:
        values: float64 [tokens, quantities]; tokens with a value that is not finite are left out.
        codes: integers [documents] or [tokens], the labels; negative where there is none.
        documents: integers [tokens], the document of each token, non-decreasing.
        level: whether labels are of documents or of tokens.
        num_labels: number of labels of the label set, including labels that do not occur.
        groups: integers [documents], see `assign_blocks`; None where each document is a group of its own.
        num_blocks: maximum number of document blocks.

    Returns:
        The sums of the values, each token or document being a unit.

    Raises:
        MeasurementError: arrays do not match in length, values are out of range, or no labelled token has a value.
    """
    _, places = label_tokens(codes, documents, level=level, shape=values.shape[:-1], num_labels=num_labels)
    counts = np.bincount(places).astype(np.int64)
    sums = sum_parts(
        values, as_codes(codes), counts, level=level, num_labels=num_labels, groups=groups, num_blocks=num_blocks
    )
    if sums is None:
        raise MeasurementError("expected labelled tokens with a value, got none: check the labels")
    return sums


def sum_parts(
    values: Any,
    codes: Any,
    counts: NDArray[np.int64],
    *,
    level: Level,
    num_labels: int,
    groups: ArrayLike | None,
    num_blocks: int,
) -> LabelledSums | None:
    """Sum as `sum_labels`, part by part; None where no labelled token has a value.

    Args:
        values: float64 [tokens, quantities], in memory or as a column.
        codes: integers [documents] or [tokens], in memory or as a column.
        counts: int64 [documents], number of tokens of each document.
        level: as in `sum_labels`, like the other arguments.
        num_labels: number of labels of the label set.
        groups: integers [documents].
        num_blocks: maximum number of document blocks.
    """
    quantities = values.shape[1]

    def read() -> Iterator[tuple[NDArray[np.int64], int, Part]]:
        """Yield the documents with a labelled token that has a value, the number of those, and these units."""
        for first, last, rows in cut_rows(counts):
            amounts, documents = np.asarray(values[rows]), np.repeat(np.arange(first, last), counts[first:last])
            labels = as_codes(codes[rows] if level == "token" else codes[documents])
            check_range("codes", labels, num_labels)
            finite = [np.isfinite(amounts[:, each]) for each in range(quantities)]  # all(axis=1) is many times as slow
            kept = np.logical_and.reduce([labels >= 0, *finite])
            present, begins = np.unique(documents[kept], return_index=True)
            masses, labels, starts = amounts[kept], labels[kept], np.append(begins, np.count_nonzero(kept))
            if level == "document" and len(present):
                masses, labels = np.add.reduceat(masses, begins, axis=0), labels[begins]
                starts = np.arange(len(present) + 1)
            columns = np.tile(np.arange(quantities, dtype=np.int16), (len(masses), 1))
            yield present, int(np.count_nonzero(kept)), (labels, columns, masses, starts.astype(np.int64))

    found = [np.zeros(0, dtype=np.int64)]
    lengths, n_tokens = [np.zeros(0, dtype=np.int64)], 0
    held: list[Part] = []
    for documents, kept, part in read():
        found.append(documents)
        n_tokens += kept
        lengths.append(np.diff(part[3]))
        held += [part] if level == "document" else []
    present = np.concatenate(found)
    if not len(present):
        return None
    if level == "token":
        own = group_documents(present, groups)
        each = np.concatenate(lengths)
        seen: Units = ObservedParts(
            lambda: (part for *_, part in read()), each, assign_blocks(own, num_blocks=num_blocks), own
        )
    else:
        labels, columns, masses = (np.concatenate([part[place] for part in held]) for place in range(3))
        seen = observe_units(labels, columns, masses, present, groups=groups, num_blocks=num_blocks)
    return LabelledSums(seen, quantities, level, num_labels, {"n_tokens": n_tokens, "n_documents": len(present)})


def label_tokens(
    codes: ArrayLike, documents: ArrayLike, *, level: Level, shape: tuple[int, ...], num_labels: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the label and the document of each token, int32 [tokens], after checks.

    Args:
        codes: integers [documents] or [tokens], the labels; negative where there is none.
        documents: integers [tokens], the document of each token, non-decreasing.
        level: whether labels are of documents or of tokens.
        shape: shape of the values, (tokens,).
        num_labels: number of labels; codes are below it.

    Raises:
        MeasurementError: arrays do not match in length, or values are out of range.
    """
    labels, places = as_codes(codes), as_codes(documents)
    check_choice("level", level, Level, error=MeasurementError)
    if places.shape != shape or (level == "token" and labels.shape != places.shape):
        raise MeasurementError(
            "expected values, codes and documents of one length, "
            f"got {shape}, {labels.shape} and {places.shape}: give a value for each token"
        )
    check_order(places)
    check_range("codes", labels, num_labels)
    if level == "document":
        check_range("documents", places, len(labels))
    return (labels if level == "token" else labels[places]), places


def are_few(counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether the interval of a mean undercovers, for few tokens, or tokens most of which are in few blocks.

    Changes of the loss are skewed and have heavy tails, so that Student's t interval of few of them is too narrow.
    Blocks count as ``(sum n_b)^2 / sum n_b^2``, where n_b is the number of tokens in block b.

    Args:
        counts: number of tokens of each mean by block, float64 [block, *shape].

    Returns:
        bool [*shape].
    """
    total = counts.sum(axis=0)
    return np.asarray((total < FEWEST_TOKENS) | (total**2 < FEWEST_BLOCKS * (counts**2).sum(axis=0)))


def shift_labels(codes: ArrayLike, documents: ArrayLike, *, sequences: ArrayLike | None = None) -> NDArray[np.int32]:
    """Assign to each token the label of the next token, which is the one that the model predicts there.

    Args:
        codes: integers [tokens], labels or token ids; negative where there is none.
        documents: integers [tokens], the document of each token.
        sequences: integers [tokens], the context window of each token, where documents were divided into windows.

    Returns:
        int32 [tokens]; -1 for the last token of a document or window.

    Raises:
        MeasurementError: arrays differ in length.
    """
    labels = as_codes(codes)
    following = np.full(labels.shape, -1, dtype=np.int32)
    together = np.ones(max(len(labels) - 1, 0), dtype=bool)
    for places in (documents, sequences):
        if places is None:
            continue
        own = np.asarray(places)
        if own.shape != labels.shape:
            raise MeasurementError(f"expected a code for each of {len(own)} tokens, got {len(labels)} codes")
        together &= own[1:] == own[:-1]
    following[:-1][together] = labels[1:][together]
    return following
