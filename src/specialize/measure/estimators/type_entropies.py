"""Entropies of experts given the word type and the label, over parts of types."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.choices import Level
from specialize.measure.base.counting import add_to, check_range
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.mersenne import seed_states
from specialize.measure.base.routed import RoutedCount, has_mass
from specialize.measure.base.units import ObservedParts
from specialize.measure.estimators.ambiguous import TypeParts
from specialize.measure.estimators.large_type import LargeType
from specialize.measure.estimators.type_runs import TypeRuns, sort_tokens, sum_entropy

_FOR_THE_MEAN = 100  # permutations within types, of which only the mean is used


@dataclass(frozen=True)
class AmbiguousTokens:
    """What is counted of the tokens of ambiguous types.

    Attributes:
        table: mass float64 [block, label, expert].
        mass: mass of each block, float64 [block].
        unit: the mass of every token, where all are equal, else None.
        codes: label of each document's first such token, int32 [documents].
        tokens: number of routed tokens.
        documents: number of documents with such tokens.
        types: number of their types.
        pairs: number of their pairs of type and label.
    """

    table: NDArray[np.float64]
    mass: NDArray[np.float64]
    unit: float | None
    codes: NDArray[np.int32]
    tokens: int
    documents: int
    types: int
    pairs: int


def read_ambiguous(
    observed: ObservedParts, layer: LayerInput, kept: Any, types: Any, parts: TypeParts, *, num_labels: int
) -> AmbiguousTokens:
    """Count the tokens of ambiguous types, and divide them by type."""
    table = np.zeros((observed.num_blocks, num_labels, layer.num_experts))
    mass, codes = np.zeros(observed.num_blocks), [np.zeros(0, dtype=np.int32)]
    counted, pairs = RoutedCount(len(observed.blocks)), Distinct()
    units: set[float] = set()
    first = 0
    for own, part in zip(layer.parts(), observed.parts(), strict=True):
        words = np.asarray(types[own.rows])[np.asarray(kept[own.rows]) >= 0].astype(np.int64)
        check_range("experts", part.experts, layer.num_experts)
        documents = first + np.repeat(np.arange(len(part.blocks)), part.lengths)
        first += len(part.blocks)
        add_to(table, part.codes, part.experts, part.masses, part.unit_blocks)
        np.add.at(mass, part.unit_blocks, np.where(part.experts >= 0, part.masses, 0.0).sum(axis=1))
        routed = has_mass(part.experts, part.masses)
        counted.add(routed, documents)
        pairs.add(words[routed] * num_labels + part.codes[routed])
        codes.append(part.codes[part.starts[:-1]])
        if part.masses.shape[1] == 1 and len(part.masses) and len(units) < 2:
            units |= {float(part.masses.min()), float(part.masses.max())}
        tokens = {"document": documents, "type": words, "masses": part.masses, "experts": part.experts}
        parts.add(code=part.codes, block=part.unit_blocks, **tokens)
    found = pairs.counts()[0]
    return AmbiguousTokens(
        table=table,
        mass=mass,
        unit=next(iter(units)) if len(units) == 1 else None,
        codes=np.concatenate(codes),
        tokens=counted.tokens,
        documents=counted.num_documents,
        types=len(np.unique(found // num_labels)),
        pairs=len(found),
    )


class TypeEntropies:
    """Mass of all tokens times H(expert | type, label), summed over parts of types, [permutation, block + 1]."""

    def __init__(
        self, observed: ObservedParts, parts: TypeParts, seen: AmbiguousTokens, *, shape: tuple[int, int]
    ) -> None:
        self._observed, self._parts, self._seen, self._shape = observed, parts, seen, shape

    def _runs(self) -> Iterator[TypeRuns | LargeType]:
        for number in range(len(self._parts)):
            yield self._sort(number)  # nothing of a part is held while the next one is sorted

    def _sort(self, number: int) -> TypeRuns | LargeType:
        if self._parts.is_large(number):
            return LargeType(partial(self._parts.read, number), self._observed.num_blocks, unit=self._seen.unit)
        tokens = self._parts.read(number)
        return sort_tokens(
            np.ascontiguousarray(tokens["code"]),
            tokens["document"],
            tokens["type"],
            experts=tokens["experts"],
            masses=tokens["masses"],
            blocks=self._observed.blocks,
            unit=self._seen.unit,
        )

    def _zeros(self, permutations: int) -> NDArray[np.float64]:
        return np.zeros((permutations, self._observed.num_blocks + 1))

    def _finish(self, result: NDArray[np.float64]) -> NDArray[np.float64]:
        return sum_entropy(result, 1.0 if self._seen.unit is None else self._seen.unit)

    def measure(
        self, level: Level, *, permutations: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[NDArray[np.float64]]]:
        """Compute it given the type, [1, block + 1], given type and label, and given both under the nulls.

        Under the null of labels of tokens, they are permuted within types; there are two of labels of documents, which
        are permuted across documents and within types.
        """
        given_type, given_both = self._zeros(1), self._zeros(1)
        inside = permutations if level == "token" else min(permutations, _FOR_THE_MEAN)
        within, across, states = self._zeros(inside), self._zeros(permutations), seed_states(seed, inside)
        for runs in self._runs():
            runs.add_entropy(given_type, np.zeros((1, len(runs.labels.codes)), dtype=np.int32), 1, self._shape[1])
            runs.add_entropy(given_both, runs.labels.codes[None], *self._shape)
            for batch, codes in runs.labels.exchange(permutations=inside, seed=seed, states=states):
                runs.add_entropy(within[batch], codes, *self._shape)
            if level == "document":
                groups = self._observed.group_numbers
                for batch, codes in runs.labels.permute(self._seen.codes, groups, permutations=permutations, seed=seed):
                    runs.add_entropy(across[batch], codes, *self._shape)
            del runs
        nulls = [within] if level == "token" else [across, within]
        return self._finish(given_type), self._finish(given_both), [self._finish(each) for each in nulls]
