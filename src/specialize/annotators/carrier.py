"""Transfer of labels from words to the tokens of a trace."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.alignment import NO_WORD, align_to_words, check_pieces, keep_pieces
from specialize.annotators.columns import read_texts
from specialize.annotators.labels import LabelEncoder
from specialize.choices import Pieces
from specialize.column import CHUNK_ROWS
from specialize.errors import AnnotationError
from specialize.trace.schema import UNKNOWN


class TokensAndTexts(Protocol):
    """The part of a trace that annotators use: its texts and the position of each token in them."""

    def tokens(self) -> pd.DataFrame:
        """Return one row per token in document order, with the columns document, char_start and char_end."""

    def documents(self) -> pd.DataFrame:
        """Return one row per document, with the columns id and text."""


class Carrier:
    """Transfers labels of words to the tokens of a trace, one document at a time.

    Args:
        trace: the trace to annotate.
        pieces: which tokens of a word carry its labels, see `align_to_words`.
        width: number of label sets.

    Attributes:
        documents: `documents()` of the trace.
        texts: the text of each document.

    Raises:
        AnnotationError: `pieces` is unknown, documents have no text, tokens have no position in the text, or tokens
            are not in document order.
    """

    def __init__(self, trace: TokensAndTexts, *, pieces: Pieces, width: int) -> None:
        check_pieces(pieces)
        self.documents, self._places = trace.documents(), read_places(trace)
        self.texts, size = read_texts(self.documents), len(self._places["document"])
        if size and self._places["char_end"].max() == UNKNOWN:
            raise AnnotationError(
                "expected tokens with their positions in the text, the trace has none; "
                "import it with the columns char_start and char_end"
            )
        self._pieces = pieces
        self._bounds = find_document_bounds(self._places["document"], len(self.texts))
        self._codes = np.full((size, width), NO_LABEL, dtype=np.int32)
        self._num_carried, self._num_unaligned, self._num_words = 0, 0, 0

    def carry(self, document: int, spans: NDArray[np.int64], codes: NDArray[np.int32]) -> None:
        """Label the tokens of one document.

        Args:
            document: row of the document.
            spans: int64 [words, 2], start and end (exclusive) of each word in characters.
            codes: int32 [words, width], the labels of each word.

        Raises:
            AnnotationError: tokens or words lie outside the text; the message names the document.
        """
        rows = slice(self._bounds[document], self._bounds[document + 1])
        own = np.stack([self._places["char_start"][rows], self._places["char_end"][rows]], axis=1)
        try:
            aligned = align_to_words(self.texts[document], own, spans, pieces="all")
        except AnnotationError as error:
            raise AnnotationError(f"document {self.documents['id'].iloc[document]!r}: {error}") from None
        self._num_carried += len(aligned)
        self._num_unaligned += int((aligned == NO_WORD).sum())
        self._num_words += len(np.unique(aligned[aligned != NO_WORD]))
        none = np.full((1, codes.shape[1]), NO_LABEL, dtype=np.int32)
        # NO_WORD is -1 and therefore selects the appended row.
        self._codes[rows] = np.concatenate([codes, none])[keep_pieces(aligned, pieces=self._pieces)]

    def annotate(
        self, encoders: Mapping[str, LabelEncoder], provenance: Mapping[str, Any], *, prefix: str = ""
    ) -> list[Annotation]:
        """Return an annotation of tokens for each label set.

        Three entries are added to the provenance: `pieces`; `share_unaligned`, the share of tokens of labelled
        documents that belong to no word (white space, special tokens); and `tokens_per_word`, the mean number of tokens
        of a word. The latter two are counted over all tokens, whatever `pieces` is.

        Args:
            encoders: the encoder of each label set by name, in the order of the columns given to `carry`.
            provenance: how the labels were made.
            prefix: put before each name.
        """
        facts = {
            **provenance,
            "pieces": self._pieces,
            "share_unaligned": self._num_unaligned / max(1, self._num_carried),
            "tokens_per_word": (self._num_carried - self._num_unaligned) / max(1, self._num_words),
        }
        annotations = []
        for column, (name, encoder) in enumerate(encoders.items()):
            labels, codes = encoder.finish(np.ascontiguousarray(self._codes[:, column]))
            annotations.append(Annotation(prefix + name, "token", labels, codes, facts))
        return annotations


def read_places(trace: TokensAndTexts) -> dict[str, Any]:
    """Return the document of each token and where it lies in the text, as columns that stay on disk if it has them."""
    names = ("document", "char_start", "char_end")
    if hasattr(trace, "column"):
        return {name: trace.column(name) for name in names}
    tokens = trace.tokens()
    return {name: tokens[name].to_numpy() for name in names}


def find_document_bounds(documents: Any, num_documents: int) -> NDArray[np.int64]:
    """Return the first token row of each document and the end of the last one, int64 [documents + 1]."""
    counts, last = np.zeros(num_documents, dtype=np.int64), 0
    for first in range(0, len(documents), CHUNK_ROWS):
        part = np.asarray(documents[first : first + CHUNK_ROWS])
        if part[0] < last or part[-1] >= num_documents or (np.diff(part) < 0).any():
            raise AnnotationError(
                f"expected tokens in the order of {num_documents} documents, got tokens of other documents or "
                "out of order; trace or import the corpus again"
            )
        counts[last : part[-1] + 1] += np.bincount(part - last, minlength=part[-1] - last + 1)
        last = int(part[-1])
    return np.append(0, np.cumsum(counts))
