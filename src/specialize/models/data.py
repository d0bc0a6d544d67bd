"""Training data: the split, the tokenizer, and the token store from which windows are cut."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from specialize.errors import ConfigError, SpecializeError, TrainingError, first_line
from specialize.quiet import quiet_loading

END_OF_TEXT = "<|endoftext|>"


def train_bpe(texts: Iterable[str], *, vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE (Sennrich et al. 2016, as in GPT-2), which encodes any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(name: str | Path, *, error: type[SpecializeError] = ConfigError) -> PreTrainedTokenizerBase:
    """Load a tokenizer that marks the end of a text and whose ids are below its length.

    Args:
        name: folder or id on the hub.
        error: the class of the error.
    """
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        for how in ("is_local", "local_files_only"):  # it was loaded, which save_pretrained would write down
            tokenizer.init_kwargs.pop(how, None)
        ids = tokenizer.get_vocab().values()
        is_complete = isinstance(tokenizer.eos_token_id, int) and max(ids) < len(tokenizer)
    except Exception as reason:  # whatever the files of a tokenizer cause, the user sees one line
        raise error(
            f"{name}: expected a tokenizer (a folder with tokenizer.json, or a name on the hub), got: "
            f"{first_line(reason).rstrip(':')}"
        ) from reason
    if not is_complete:
        raise error(
            f"{name}: expected a tokenizer with an end-of-text token (eos_token) and ids from 0 to its length - 1 = "
            f"{len(tokenizer) - 1}, got {tokenizer.eos_token!r} and ids up to {max(ids)}"
        )
    return tokenizer


def is_held_out(document_id: str, *, share: float, separator: str, seed: int) -> bool:
    """Return whether a document is held out, decided by a hash of its group, regardless of the order."""
    group = document_id.split(separator, 1)[0] if separator else document_id
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass(frozen=True)
class TokenStore:
    """Token ids of many documents, concatenated.

    Attributes:
        tokens: uint16 or uint32 [tokens]; each document ends with the end-of-text token.
        offsets: int64 [documents + 1]; document d is ``tokens[offsets[d]:offsets[d + 1]]``.
        guides: text [documents], the labels by which a guided router is trained.
    """

    tokens: NDArray[np.unsignedinteger]
    offsets: NDArray[np.int64]
    guides: NDArray[np.str_] | None = None

    @classmethod
    def encode(
        cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, guides: Sequence[str] | None = None
    ) -> "TokenStore":
        """Tokenize texts in batches, on all cores."""
        dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        pieces: list[NDArray[np.unsignedinteger]] = []
        for start in range(0, len(texts), 1024):
            batch = tokenizer(list(texts[start : start + 1024]), add_special_tokens=False, verbose=False)["input_ids"]
            pieces += [np.array([*ids, tokenizer.eos_token_id], dtype=dtype) for ids in batch]
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        labels = np.array(guides, dtype=np.str_) if guides else None
        return cls(np.concatenate(pieces), np.concatenate([[0], lengths.cumsum()]), labels)

    def save(self, path: Path) -> None:
        """Write to an .npz file."""
        with path.open("wb") as file:
            if self.guides is None:
                np.savez(file, tokens=self.tokens, offsets=self.offsets)
            else:
                np.savez(file, tokens=self.tokens, offsets=self.offsets, guides=self.guides)

    @classmethod
    def load(cls, path: Path) -> "TokenStore":
        """Read what `save` wrote.

        Raises:
            TrainingError: the file is missing, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                store = cls(stored["tokens"], stored["offsets"], stored.get("guides"))
        except Exception as error:  # whatever the file causes, the user sees one line
            raise TrainingError(f"{path}: expected stored tokens, got: {first_line(error)}") from error
        if not store._is_valid():
            raise TrainingError(f"{path}: expected token ids and the offsets of their documents, got other arrays")
        return store

    def _is_valid(self) -> bool:
        """Return whether types and shapes are those of the attributes, and the documents cover the tokens."""
        arrays: tuple[Any, ...] = (self.tokens, self.offsets, *([] if self.guides is None else [self.guides]))
        return (
            all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays)
            and self.tokens.dtype in (np.uint16, np.uint32)
            and self.offsets.dtype == np.int64
            and len(self.offsets) > 1
            and self.offsets[0] == 0
            and self.offsets[-1] == len(self.tokens)
            and bool((np.diff(self.offsets) > 0).all())
            and (self.guides is None or (self.guides.dtype.kind == "U" and len(self.guides) == len(self.offsets) - 1))
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the tokens, their documents and guides."""
        digest = hashlib.sha256()
        for array in (self.tokens, self.offsets, *([] if self.guides is None else [self.guides])):
            digest.update(f"{array.dtype.str} {len(array)}\n".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def windows(self, length: int, *, shuffle_seed: tuple[int, int] | None = None) -> NDArray[np.int64]:
        """Return the starts of windows of `length` tokens that lie within a document, int64 [windows].

        With a seed, the windows of a document are shifted together by a random offset and all windows are permuted,
        so that each epoch cuts the text at other places. Documents shorter than a window are left out.
        """
        sizes = np.diff(self.offsets)
        counts = sizes // length
        rng = np.random.default_rng(shuffle_seed) if shuffle_seed else None
        shifts = rng.integers(0, sizes - counts * length + 1) if rng else np.zeros_like(sizes)
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        starts = np.repeat(self.offsets[:-1] + shifts, counts) + within * length
        return rng.permutation(starts) if rng else starts

    def document_of(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the document in which each window starts, int64 [windows]."""
        return np.searchsorted(self.offsets, starts, side="right") - 1

    def batch(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return the token ids of the windows at `starts`, int64 [windows, length]."""
        return self.tokens[starts[:, None] + np.arange(length)].astype(np.int64)


def batches(
    store: TokenStore, *, length: int, size: int, seed: int, first_step: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield the starts of training batches, int64 [size], without end; the store has windows for at least one.

    The batch of a step depends only on the seed and the step, so that runs can be resumed.
    """
    per_epoch = len(store.windows(length)) // size
    epoch, within = divmod(first_step, per_epoch)
    while True:
        starts = store.windows(length, shuffle_seed=(seed, epoch))
        for index in range(within, per_epoch):
            yield starts[index * size : (index + 1) * size]
        epoch, within = epoch + 1, 0
