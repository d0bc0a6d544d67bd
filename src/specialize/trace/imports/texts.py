"""Texts of documents, and the characters of their tokens, from token ids and the tokenizer of the model."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError, first_line
from specialize.extras import missing_extra
from specialize.quiet import quiet_loading
from specialize.trace.imports.model_config import check_hub_id
from specialize.trace.imports.source import Block, Findings, Key
from specialize.trace.schema import UNKNOWN
from specialize.trace.token_text import TokenDecoder

_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


class GivenTexts(Protocol):
    """Documents that may have a text in a table."""

    def find_text(self, key: Key, part: int) -> str | None:
        """Return the text of a document; None if no table has it."""


class Texts:
    """Adds texts and characters to blocks.

    Args:
        tokenizer: a tokenizer of transformers, or the folder or hub id of one; no code that comes with it is run.
        given: the documents; texts that they have are kept, and tokens get their places in them.

    Raises:
        TraceError: the tokenizer cannot be loaded.
        MissingExtraError: the package that loads it is not installed.
    """

    def __init__(self, tokenizer: Any, given: GivenTexts) -> None:
        if isinstance(tokenizer, str | PathLike):
            self.name = fspath(tokenizer)
            tokenizer = _load(self.name)
        else:
            self.name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        self._size = max(tokenizer.get_vocab().values(), default=-1) + 1  # ids may have gaps
        self._decoder = TokenDecoder(tokenizer)
        self._given = given
        self._tokens = self._unplaced = self._special = self._without_text = 0

    def add(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield blocks that hold whole documents, with their texts and with char_start and char_end of the tokens.

        Raises:
            TraceError: the input has no token ids, has characters already, or its ids are not of this tokenizer.
        """
        for held in _whole_documents(blocks):
            document = np.concatenate([block.document for block in held])
            ids = np.concatenate([self._ids_of(block) for block in held])
            keys = [key for block in held for key in block.keys]
            starts = np.append(np.flatnonzero(np.diff(document, prepend=document[:1] - 1)), len(document))
            spans = np.full((len(ids), 2), UNKNOWN, np.int32)
            texts: list[str | None] = []
            where = _Places(held)
            for key, start, end in zip(keys, starts[:-1], starts[1:], strict=True):
                text, spans[start:end] = self._read(ids[start:end], key, held[0].part, where(start))
                texts.append(text)
            first = 0
            for block in held:
                rows = slice(first, first + len(block.document))
                first = rows.stop
                columns = {"char_start": spans[rows, 0], "char_end": spans[rows, 1]}
                yield replace(block, tokens={**block.tokens, **columns}, texts=texts[: len(block.keys)])
                texts = texts[len(block.keys) :]

    def findings(self) -> Findings:
        """Return what a user should know of the texts."""
        notes = [f"texts are decoded with the tokenizer {self.name}"]
        if self._unplaced:
            notes.append(f"tokens that have no place in the text: {self._unplaced:,} of {self._tokens:,}")
        if self._special:
            notes.append(f"special tokens at the ends of documents, which are no text: {self._special:,}")
        if self._without_text:
            notes.append(f"documents without a text, because token ids are unknown or no text: {self._without_text:,}")
        facts = {"name": self.name, "unplaced_tokens": self._unplaced, "documents_without_text": self._without_text}
        return Findings(tuple(notes), {"tokenizer": facts})

    def _ids_of(self, block: Block) -> NDArray[np.integer]:
        if "token_id" not in block.tokens:
            raise TraceError(
                f"{block.where(0)}: tokenizer: expected an input with token ids, found none in this format"
            )
        if "char_start" in block.tokens or "char_end" in block.tokens:
            raise TraceError(
                f"{block.where(0)}: tokenizer: expected an input without characters of its tokens, got char_start or "
                "char_end; leave out the tokenizer, or these columns"
            )
        ids = block.tokens["token_id"]
        wrong = np.flatnonzero((ids >= self._size) | (ids < UNKNOWN))
        if len(wrong):
            raise TraceError(
                f"{block.where(int(wrong[0]))}: expected ids of the {self._size:,} tokens of {self.name}, got "
                f"{ids[wrong[0]]}; is it the tokenizer of another model?"
            )
        return ids

    def _read(self, ids: NDArray[np.integer], key: Key, part: int, where: str) -> tuple[str | None, NDArray[np.int32]]:
        """Return the text of a document, None if there is none, and the characters of its tokens."""
        spans = np.full((len(ids), 2), UNKNOWN, np.int32)
        given = self._given.find_text(key, part)
        decoded = None if (ids == UNKNOWN).any() else self._decoder.decode(ids)
        if decoded is None:
            self._without_text += given is None
            return given, spans
        rows = slice(decoded.opening, decoded.opening + len(decoded.token_ids))
        spans[rows] = decoded.spans
        if given is not None and given != decoded.text:
            known = self._decoder.encode(given, decoded.token_ids)
            if known is None:
                raise TraceError(
                    f"{where}: document {key!r:.60}: expected token ids of its text, which {self.name} encodes to "
                    "others; leave out the texts of the table, or the tokenizer"
                )
            spans[rows] = known
        self._tokens += len(ids)
        self._unplaced += int((spans[rows, 0] == UNKNOWN).sum())
        self._special += len(ids) - len(decoded.token_ids)
        return decoded.text if given is None else given, spans


class _Places:
    """Returns the place of a row of consecutive blocks."""

    def __init__(self, blocks: list[Block]) -> None:
        self._blocks = blocks

    def __call__(self, row: int) -> str:
        for block in self._blocks:
            if row < len(block.document):
                return block.where(int(row))
            row -= len(block.document)
        raise IndexError(row)


def has_tokenizer(folder: str | PathLike[str]) -> bool:
    """Return whether a folder of a model holds its tokenizer."""
    return any((Path(folder) / name).is_file() for name in _FILES)


def _load(name: str) -> Any:
    if not Path(name).is_dir():
        check_hub_id(name, "tokenizer", "a folder with a tokenizer")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise missing_extra("transformers") or error from None
    try:
        with quiet_loading():
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # whatever the files of a tokenizer, the hub and the network cause
        raise TraceError(f"tokenizer: {name} could not be loaded as a tokenizer: {first_line(error):.300}") from None


def _whole_documents(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Yield consecutive blocks that together hold whole documents; a block is cut where its first document ends."""
    held: list[Block] = []
    for block in blocks:
        if not len(block.document):
            continue
        if held and held[-1].document[-1] == block.document[0]:
            end = int(np.searchsorted(block.document, block.document[0], side="right"))
            if end == len(block.document):
                held.append(block)
                continue
            yield [*held, block.cut(0, end)]
            held = [block.cut(end, len(block.document))]
            continue
        if held:
            yield held
        held = [block]
    if held:
        yield held
