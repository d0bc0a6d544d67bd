"""Gold tags: those of a CoNLL-U treebank, aligned with a trace of its text."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from specialize.annotation import Annotation
from specialize.annotators.carrier import Carrier, TokensAndTexts
from specialize.annotators.tagging import NONE, make_encoders
from specialize.choices import Pieces
from specialize.corpus.conllu import TreebankDocument, Word, read_treebank
from specialize.errors import AnnotationError
from specialize.events import Progress

PREFIX = "gold_"
_COLUMNS = {"upos": "upos", "tag": "xpos", "dep": "deprel", "morph": "feats"}


def annotate_gold(
    trace: TokensAndTexts,
    path: str | PathLike[str],
    *,
    tags: Sequence[str] = ("upos",),
    pieces: Pieces = "first",
    progress: Progress | None = None,
) -> list[Annotation]:
    """Label every token of a trace with the gold tags of its word.

    The trace must be one of the treebank's own text, as made by `specialize trace MODEL FILE.conllu`; documents are
    matched by their text. A multiword token is labelled with the tags of its first word.

    Args:
        trace: the trace to annotate.
        path: a CoNLL-U file, or a folder of such files.
        tags: any of upos, tag (the column XPOS), dep and morph; one annotation is made for each.
        pieces: which tokens of a word carry its tag (see `align_to_words`).
        progress: called with (documents done, documents in all).

    Returns:
        An annotation of tokens for each tag, named ``gold_upos`` and so on. Its provenance has the number of documents
        whose text is not in the treebank as `documents_without_gold`.

    Raises:
        AnnotationError: a tag is unknown, there is no such file, it contains none of the texts of the trace, or tokens
            lie outside their text.
        CorpusError: the file is not CoNLL-U.
    """
    encoders = make_encoders(tags)
    missing = [tag for tag in tags if tag not in _COLUMNS]
    if missing:
        raise AnnotationError(f"expected gold tags among {', '.join(_COLUMNS)}, got {missing[0]!r}; leave it out")
    carrier = Carrier(trace, pieces=pieces, width=len(encoders))
    wanted = set(carrier.texts)
    gold: dict[str, list[TreebankDocument]] = {}
    for document in read_gold(path):
        if document.text in wanted:
            gold.setdefault(document.text, []).append(document)
    done = 0
    for row, text in enumerate(carrier.texts):
        if text in gold:
            # documents with the same text are assigned in order, the last one to all that remain
            own = gold[text].pop(0) if len(gold[text]) > 1 else gold[text][0]
            columns = [encoders[tag].encode(_read(word, tag) for word in own.words) for tag in encoders]
            carrier.carry(row, np.array(own.spans, dtype=np.int64).reshape(-1, 2), np.stack(columns, axis=1))
            done += 1
        if progress is not None:
            progress(row + 1, len(carrier.texts))
    if not done:
        raise AnnotationError(
            f"{path}: expected texts of this trace, found none; trace the treebank itself: "
            f"specialize trace MODEL {path} -o RUN"
        )
    provenance = {"tool": "treebank", "file": Path(path).name, "documents_without_gold": len(carrier.texts) - done}
    return carrier.annotate(encoders, provenance, prefix=PREFIX)


def language_of_treebank(path: str | PathLike[str]) -> str | None:
    """Return the language code in a file name of Universal Dependencies ("de_pud-ud-test.conllu"), else None."""
    code, mark, _ = Path(path).name.partition("_")
    return code if mark and "-ud-" in Path(path).name and code.isalpha() and len(code) <= 3 else None


def read_gold(path: str | PathLike[str]) -> Iterator[TreebankDocument]:
    """Yield the documents of a CoNLL-U file, or of all such files in a folder, in the order of their names.

    Raises:
        AnnotationError: there is no such file, or no such file in the folder.
        CorpusError: a file is not CoNLL-U.
    """
    place = Path(path)
    files = sorted(place.glob("*.conllu")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise AnnotationError(f"{path}: expected a CoNLL-U file or a folder of *.conllu files, found none")
    for file in files:
        yield from read_treebank(file, file.name)


def _read(word: Word, tag: str) -> str:
    label: str = getattr(word, _COLUMNS[tag])
    if label == "_":
        return NONE if tag == "morph" else ""
    return label
