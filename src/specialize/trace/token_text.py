"""Text from token ids, with the characters of each token.

The ids are decoded as a whole, and the text is encoded again. Where the ids agree from either end, the tokenizer says
which characters each token has. Between these places, as in a sequence that begins in the middle of a word, or that a
model generated in other pieces than the tokenizer cuts, characters are placed by decoding: those of a token are what
the text gains by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.trace.schema import UNKNOWN

_SPECIAL = ("bos", "cls", "eos", "sep", "pad")
_CONTEXT = 4  # tokens before those that are placed, which are decoded with them: a space may depend on them
_WINDOW = 16  # tokens decoded at once, as long as a character ends where one of them does
_LONGEST = 128  # tokens; if none of them ends where a character does, the decoder contradicts itself
_UNREADABLE = "\ufffd"  # what decoders write for bytes that are no whole character


@dataclass(frozen=True)
class TokenText:
    """The text of a sequence of tokens.

    Attributes:
        text: decoded from `token_ids`.
        token_ids: int32 [tokens], without the special tokens that open and close the sequence.
        opening: number of special tokens before them.
        spans: int32 [tokens, 2], characters (code points) of each token in the text, end exclusive. Tokens that are
            pieces of one character share it. UNKNOWN (-1) for a token that cannot be placed.
    """

    text: str
    token_ids: NDArray[np.int32]
    opening: int
    spans: NDArray[np.int32]

    @property
    def unplaced(self) -> int:
        """Number of tokens that could not be placed."""
        return int((self.spans[:, 0] == UNKNOWN).sum())


class TokenDecoder:
    """Decodes sequences of token ids.

    Special tokens that open or close a sequence (beginning and end of a sequence, classification, separator, padding)
    are not part of its text. Any other token is, special or not.

    Args:
        tokenizer: of transformers. With a fast one the characters of tokens are those of its ``offset_mapping``, which
            may or may not include the space before a word; with a slow one, they include it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        ids = (getattr(tokenizer, f"{name}_token_id", None) for name in _SPECIAL)
        self._special = np.array([number for number in ids if number is not None], dtype=np.int32)
        self._is_fast = bool(getattr(tokenizer, "is_fast", False))
        self._has_spaces = not self._is_fast or any(start <= 1 < end for start, end in self._encode("a b")[1])

    def decode(self, ids: NDArray[np.integer]) -> TokenText | None:
        """Decode a sequence.

        Args:
            ids: integers [length], without padding.

        Returns:
            None if there is nothing but special tokens or white space.
        """
        ordinary = np.flatnonzero(~np.isin(ids, self._special))
        if not len(ordinary):
            return None
        opening = int(ordinary[0])
        kept = np.asarray(ids[opening : ordinary[-1] + 1], dtype=np.int32)
        text = self._decode(kept.tolist())
        if not text.strip():
            return None
        return TokenText(text, kept, opening, self._place(text, kept.tolist()))

    def place(self, ids: NDArray[np.integer]) -> tuple[str, NDArray[np.int32]]:
        """Return the text of all tokens, special ones included, and their characters in it, int32 [tokens, 2].

        Args:
            ids: integers [tokens].
        """
        listed = [int(number) for number in ids]
        text = self._decode(listed)
        return text, self._place(text, listed)

    def encode(self, text: str, ids: NDArray[np.integer]) -> NDArray[np.int32] | None:
        """Return the characters of each token in a text, int32 [tokens, 2]; None unless it encodes to these ids."""
        if not self._is_fast:
            return None
        read, known = self._encode(text)
        return known if read == ids.tolist() else None

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _encode(self, text: str) -> tuple[list[int], NDArray[np.int32]]:
        encoded = self._tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
            truncation=False,
            verbose=False,
        )
        return encoded["input_ids"], np.array(encoded["offset_mapping"], dtype=np.int32).reshape(-1, 2)

    def _place(self, text: str, ids: list[int]) -> NDArray[np.int32]:
        """Return the characters of each token, int32 [tokens, 2]."""
        spans = np.full((len(ids), 2), UNKNOWN, dtype=np.int32)
        read, known = self._encode(text) if self._is_fast else ([], spans[:0])
        if read == ids:
            return known
        before = _count_equal(ids, read)
        after = min(_count_equal(ids[::-1], read[::-1]), min(len(ids), len(read)) - before)
        while before and not _is_cut(known, before):  # begin where a character does
            before -= 1
        context = max(before - _CONTEXT, 0)
        while context and not _is_cut(known, context):
            context -= 1
        end = len(ids) - after
        spans[:before] = known[:before]
        spans[end:] = known[len(read) - after :]
        base = int(known[before - 1, 1]) if before else 0
        spans[before:end] = self._place_by_decoding(text, ids[context:end], before - context, base)
        return spans

    def _place_by_decoding(self, text: str, ids: list[int], first: int, base: int) -> NDArray[np.int32]:
        """Return the characters of the tokens from the first on, whose characters begin at `base`, int32 [tokens, 2].

        The tokens are decoded in windows that begin and end between characters, so that the time is linear.
        """
        spans = np.full((len(ids), 2), UNKNOWN, dtype=np.int32)
        cuts = [first]  # numbers of tokens after which a character ends
        context, seen = 0, self._decode(ids[:first])  # where the window begins, and its text before `base`
        reached, is_certain = base, True  # whole characters so far; whether all tokens since the last cut were read
        for token in range(first, len(ids)):
            decoded = self._decode(ids[context : token + 1])
            expected = seen + text[base : base + len(decoded)]
            is_whole = len(decoded) >= len(seen) and expected.startswith(decoded)
            common = len(decoded) if is_whole else _count_equal(decoded, expected)
            added = base + common - len(seen)
            # a token that adds nothing to bytes that are no character is a further piece of what was written for them
            start = reached - (is_whole and added == reached and decoded.endswith(_UNREADABLE))
            reached = max(added, reached)
            is_read = not decoded[common:].strip(_UNREADABLE)
            # a byte that later ones make unreadable, for each of which decoders then write a mark
            is_spoiled = (
                not is_read and text.startswith(_UNREADABLE, reached) and len(self._decode(ids[token : token + 1])) == 1
            )
            is_certain &= is_read or is_spoiled
            # a space that decoders drop before the first character shares it, as in offset mappings
            end = min(max(reached + (not is_whole), 1), len(text))
            spans[token] = self._trim(text, start, end)
            if not (is_whole or is_spoiled):
                if token - cuts[-1] >= _LONGEST:
                    spans[cuts[-1] :] = UNKNOWN
                    break
                continue
            if not is_certain:
                spans[cuts[-1] : token + 1] = UNKNOWN
            is_certain = True
            cuts.append(token + 1)
            if is_spoiled:
                reached += 1
                context, seen, base, cuts = token, _UNREADABLE, reached, [token + 1]
            elif token + 1 - context >= _WINDOW:
                for cut in reversed(cuts[-_WINDOW:-_CONTEXT]):
                    before = self._decode(ids[cut : token + 1])
                    if text.endswith(before, 0, reached):
                        context, seen, base, cuts = cut, before, reached, [each for each in cuts if each > cut]
                        break
        return spans[first:]

    def _trim(self, text: str, start: int, end: int) -> tuple[int, int]:
        """Return the characters of a token without white space around them, if the tokenizer leaves it out."""
        if self._has_spaces:
            return start, end
        piece = text[start:end]
        start = min(start + len(piece) - len(piece.lstrip()), end)
        return start, max(end - (len(piece) - len(piece.rstrip())), start)


def _count_equal(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items are equal from the start."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (item, match) in enumerate(pairs) if item != match), min(len(one), len(other)))


def _is_cut(spans: NDArray[np.int32], token: int) -> bool:
    """Return whether a token begins where the one before it ends, and not in the same character."""
    return token >= len(spans) or bool(spans[token - 1, 1] <= spans[token, 0])
