"""Word forms as predictors: the most frequent label of each, and a control task of labels drawn for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from specialize.column import CHUNK_ROWS
from specialize.measure.base.blocks import group_documents
from specialize.measure.base.distinct import Distinct
from specialize.measure.base.random import generator


@dataclass(frozen=True)
class Baseline:
    """Word forms for the word-form baseline, which may be fitted on more tokens than the probes.

    Arrays of tokens may be columns on disk, which are read a slice at a time.

    Attributes:
        words: integers [tokens], the word form of each token.
        codes: int32 [tokens], the label of each token; tokens with a negative one are not used.
        documents: int32 [tokens], the document of each token.
        sample: int64 [units], indices of the tokens on which probes are fitted and scored, ascending.
    """

    words: Any
    codes: Any
    documents: Any
    sample: NDArray[np.int64]

    @cached_property
    def forms(self) -> NDArray[np.int64]:
        """The distinct word forms of tokens with a label, in ascending order."""
        found = Distinct()
        for words, _, _ in self.parts():
            found.add(words.astype(np.int64))
        return found.counts()[0]

    @property
    def sampled(self) -> NDArray[np.int64]:
        """Place in `forms` of the word form of each unit."""
        return np.searchsorted(self.forms, self.words[self.sample])

    def parts(self) -> Iterator[tuple[NDArray[np.integer], NDArray[np.int32], NDArray[np.integer]]]:
        """Yield word form, label and document of the tokens that have a label."""
        for first in range(0, len(self.codes), CHUNK_ROWS):
            own = slice(first, first + CHUNK_ROWS)
            codes = np.asarray(self.codes[own])
            labelled = codes >= 0
            yield self.words[own][labelled], codes[labelled], np.asarray(self.documents[own])[labelled]


def predict_by_form(
    baseline: Baseline,
    own: NDArray[np.integer],
    groups: ArrayLike | None,
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.int32]:
    """Predict the most frequent label of the word form over all tokens of the groups that are not held out."""
    held = np.full(int(baseline.documents.max()) + 1, len(parts))  # fold in which each document is held out, if any
    of_documents = group_documents(np.arange(len(held)), groups)
    for fold, (_, held_out) in enumerate(parts):
        held[np.isin(of_documents, own[held_out])] = fold
    counts, sampled = _count_forms(baseline, held, len(parts) + 1), baseline.sampled
    predicted = np.empty(len(own), dtype=np.int32)
    for fold, (_, held_out) in enumerate(parts):
        times = sparse.csr_array(sum(each for number, each in enumerate(counts) if number != fold))
        best = np.asarray(times.argmax(axis=1)).ravel()
        best[np.diff(times.indptr) == 0] = times.sum(axis=0).argmax()
        predicted[held_out] = best[sampled[held_out]]
    return predicted


def _count_forms(baseline: Baseline, held: NDArray[np.integer], folds: int) -> list[sparse.csr_array]:
    """Count the labels of each word form, [forms, labels], in the documents of each fold."""
    shape = (len(baseline.forms), int(baseline.codes.max()) + 1)
    counts = [sparse.csr_array(shape, dtype=np.int32) for _ in range(folds)]
    for words, codes, documents in baseline.parts():
        forms, fold = np.searchsorted(baseline.forms, words), held[documents]
        for number in np.unique(fold):
            own = fold == number
            ones = np.ones(np.count_nonzero(own), dtype=np.int32)
            counts[number] = counts[number] + sparse.csr_array((ones, (forms[own], codes[own])), shape=shape)
    return counts


def draw_control(baseline: Baseline, labels: NDArray[np.int32], seed: int) -> NDArray[np.int32]:
    """Draw a label for each word form at random, with the label frequencies of the tokens."""
    drawn = generator(seed).choice(labels, size=len(baseline.forms))
    return drawn[baseline.sampled].astype(np.int32)
