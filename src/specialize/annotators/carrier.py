"""Labels of words carried to the tokens of a trace."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.alignment import NO_WORD, Pieces, align_to_words, check_pieces, keep_pieces
from specialize.annotators.columns import read_texts
from specialize.annotators.labels import LabelEncoder
from specialize.errors import AnnotationError
from specialize.trace.schema import UNKNOWN


class TokensAndTexts(Protocol):
    """What is needed of a trace: its texts, and where in them each token lies."""

    def tokens(self) -> pd.DataFrame:
        """Return the columns document, char_start and char_end, one row a token, in document order."""

    def documents(self) -> pd.DataFrame:
        """Return the columns id and text, one row a document."""


class Carrier:
    """Carries the labels of words, a document at a time, to the tokens that begin in them.

    Args:
        trace: the trace.
        pieces: which tokens of a word carry its labels, see `align_to_words`.
        width: label sets at once.

    Attributes:
        documents: `documents()` of the trace.
        texts: their texts.

    Raises:
        AnnotationError: an unknown choice of pieces; documents without text, tokens without their place, or out of order.
    """

    def __init__(self, trace: TokensAndTexts, *, pieces: Pieces, width: int) -> None:
        check_pieces(pieces)
        self.documents, tokens = trace.documents(), trace.tokens()
        self.texts = read_texts(self.documents)
        if len(tokens) and (tokens["char_end"] == UNKNOWN).all():
            raise AnnotationError(
                "expected tokens with their place in the text, the trace tells none; "
                "import it with char_start and char_end"
            )
        self._pieces, self._spans = pieces, tokens[["char_start", "char_end"]].to_numpy()
        self._bounds = _find_document_bounds(tokens["document"].to_numpy(), len(self.texts))
        self._codes = np.full((len(tokens), width), NO_LABEL, dtype=np.int32)
        self._num_carried, self._num_unaligned, self._num_words = 0, 0, 0

    def carry(self, document: int, spans: NDArray[np.int64], codes: NDArray[np.int32]) -> None:
        """Label the tokens of one document.

        Args:
            document: its row.
            spans: int64 [words, 2].
            codes: int32 [words, width].

        Raises:
            AnnotationError: tokens or words do not fit the text, naming the document.
        """
        rows = slice(self._bounds[document], self._bounds[document + 1])
        try:
            aligned = align_to_words(self.texts[document], self._spans[rows], spans, pieces="all")
        except AnnotationError as error:
            raise AnnotationError(f"document {self.documents['id'].iloc[document]!r}: {error}") from None
        self._num_carried += len(aligned)
        self._num_unaligned += int((aligned == NO_WORD).sum())
        self._num_words += len(np.unique(aligned[aligned != NO_WORD]))
        none = np.full((1, codes.shape[1]), NO_LABEL, dtype=np.int32)
        # NO_WORD is -1: it picks the row put at the end.
        self._codes[rows] = np.concatenate([codes, none])[keep_pieces(aligned, pieces=self._pieces)]

    def annotate(
        self, encoders: Mapping[str, LabelEncoder], provenance: Mapping[str, Any], *, prefix: str = ""
    ) -> list[Annotation]:
        """Return an annotation of tokens for each label set.

        Its provenance gains `pieces` and `share_unaligned`: the share of the tokens of labelled documents that lie in
        no word (white space, special tokens), counted before the choice of pieces; and `tokens_per_word`, likewise.

        Args:
            encoders: of each label set by name, in the order of the columns of `carry`.
            provenance: how the labels were made.
            prefix: put before the names.
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


def _find_document_bounds(document: NDArray[np.int32], num_documents: int) -> NDArray[np.int64]:
    """Return the first token row of each document and the end of the last [documents + 1]."""
    if document.size and (document[0] < 0 or document[-1] >= num_documents or (np.diff(document) < 0).any()):
        raise AnnotationError(
            f"expected tokens in the order of {num_documents} documents, got tokens out of order or of other documents"
        )
    return np.searchsorted(document, np.arange(num_documents + 1))
