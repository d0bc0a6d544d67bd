"""Sequences of token ids back to text, with the characters of each token."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.trace.schema import UNKNOWN

_SPECIAL = ("bos", "cls", "eos", "sep", "pad")


@dataclass(frozen=True)
class DecodedRow:
    """The text of a sequence.

    Attributes:
        text: decoded from `token_ids`.
        token_ids: int32 [tokens], without the special tokens that open and close the sequence.
        opening: number of special tokens before them.
        spans: int32 [tokens, 2], characters (code points) of each token, end exclusive; UNKNOWN (-1) for all tokens
            if the text does not encode to the same ids, for instance if the sequence begins in the middle of a word.
    """

    text: str
    token_ids: NDArray[np.int32]
    opening: int
    spans: NDArray[np.int32]


class RowDecoder:
    """Decodes sequences with a fast tokenizer.

    Special tokens that open or close a sequence (beginning and end of a sequence, classification, separator, padding)
    are not part of its text. Any other token is, special or not.

    Args:
        tokenizer: a fast tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        ids = (getattr(tokenizer, f"{name}_token_id", None) for name in _SPECIAL)
        self._special = np.array([number for number in ids if number is not None], dtype=np.int32)

    def decode(self, ids: NDArray[np.int32]) -> DecodedRow | None:
        """Decode a sequence.

        Args:
            ids: int32 [length], without padding.

        Returns:
            None if there is nothing but special tokens or white space.
        """
        ordinary = np.flatnonzero(~np.isin(ids, self._special))
        if not len(ordinary):
            return None
        opening = int(ordinary[0])
        kept = ids[opening : ordinary[-1] + 1]
        text = self._tokenizer.decode(kept.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if not text.strip():
            return None
        return DecodedRow(text, kept, opening, self._spans(text, kept))

    def _spans(self, text: str, kept: NDArray[np.int32]) -> NDArray[np.int32]:
        encoded = self._tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
            truncation=False,
            verbose=False,
        )
        if encoded["input_ids"] == kept.tolist():
            return np.array(encoded["offset_mapping"], dtype=np.int32).reshape(-1, 2)
        return np.full((len(kept), 2), UNKNOWN, dtype=np.int32)
