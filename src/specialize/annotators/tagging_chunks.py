"""Texts tagged in chunks, which are independent of one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL
from specialize.annotators.labels import LabelEncoder
from specialize.annotators.tagging import load_pipeline, make_encoders, tag_texts
from specialize.engine import Engine

if TYPE_CHECKING:
    from spacy.language import Language

Words = tuple[NDArray[np.int64], NDArray[np.int32]]  # spans [words, 2], codes [words, tags]

_TEXTS = 256
_CHARACTERS = 2**20
_PROCESSES_TIMES = 16  # larger, where spaCy starts processes for each chunk


@dataclass(frozen=True)
class TaggedTexts:
    """The words of some texts.

    Attributes:
        words: of each text, as `tag_texts` yields them.
        labels: of each tag, by the codes.
    """

    words: Sequence[Words]
    labels: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Tagger:
    """Tags texts with a pipeline that each process loads once; the attributes are arguments of `annotate_syntax`.

    Attributes:
        pipeline: name or path; by default the smallest one for the language.
        language: language code of the texts.
        tags: the tags of each word.
        batch_size: number of texts that spaCy tags at a time.
        processes: number of spaCy's worker processes.
    """

    pipeline: str | Path | None
    language: str | None
    tags: tuple[str, ...]
    batch_size: int
    processes: int

    @cached_property
    def nlp(self) -> "Language":
        """The pipeline."""
        return load_pipeline(self.pipeline, language=self.language, tags=self.tags)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets, which loads the pipeline itself."""
        return {name: value for name, value in vars(self).items() if name != "nlp"}

    def __call__(self, texts: Sequence[str]) -> TaggedTexts:
        """Return the words of texts, with labels of their own."""
        encoders = make_encoders(self.tags)
        how: dict[str, Any] = {"batch_size": self.batch_size, "processes": self.processes}
        words = list(tag_texts(self.nlp, texts, encoders=encoders, **how))
        return TaggedTexts(words, {tag: encoder.labels for tag, encoder in encoders.items()})


def tag_chunks(
    tagger: Tagger, texts: Sequence[str], encoders: Mapping[str, LabelEncoder], *, engine: Engine
) -> Iterator[Words]:
    """Yield the words of each text, in order, with codes of the encoders.

    Chunks do not depend on the engine, so that neither do the tags, which may depend on the texts that a pipeline
    reads together.

    Args:
        tagger: tags a chunk.
        texts: the texts.
        encoders: of each tag of the tagger.
        engine: calls the tagger.
    """
    chunks = cut_chunks(texts, _CHARACTERS * (_PROCESSES_TIMES if tagger.processes > 1 else 1))
    for tagged in engine.map(tagger, chunks):
        # NO_LABEL is -1 and selects the appended entry
        names = [[*encoders[tag].encode(labels), NO_LABEL] for tag, labels in tagged.labels.items()]
        codes = [np.array(each, dtype=np.int32) for each in names]
        for spans, own in tagged.words:
            yield spans, np.stack([codes[place][own[:, place]] for place in range(len(codes))], axis=1)


def cut_chunks(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """Yield consecutive texts: at most 256 of 4,096 characters on average, unless a single one is longer.

    Args:
        texts: the texts.
        characters: most of a chunk; the number of its texts grows with them.
    """
    chunk: list[str] = []
    held = 0
    for text in texts:
        if chunk and (len(chunk) == _TEXTS * characters // _CHARACTERS or held + len(text) > characters):
            yield chunk
            chunk, held = [], 0
        chunk.append(text)
        held += len(text)
    if chunk:
        yield chunk
