"""Tags that people gave: those of a CoNLL-U treebank, aligned with the trace of its text."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from specialize.annotation import Annotation
from specialize.annotators.alignment import Pieces
from specialize.annotators.carrier import Carrier, TokensAndTexts
from specialize.annotators.tagging import NONE, make_encoders
from specialize.corpus.conllu import TreebankDocument, Word, read_treebank
from specialize.errors import AnnotationError

PREFIX = "gold_"
_COLUMNS = {"upos": "upos", "tag": "xpos", "dep": "deprel", "morph": "feats"}


def annotate_gold(
    trace: TokensAndTexts,
    path: str | Path,
    *,
    tags: Sequence[str] = ("upos",),
    pieces: Pieces = "first",
    progress: Callable[[int, int], None] | None = None,
) -> list[Annotation]:
    """Give every token of a trace the gold tags of its word.

    The trace is of the treebank's own text, as `specialize trace MODEL FILE.conllu` makes it: documents are matched by
    their text. A multiword token carries the tags of the first word that it stands for.

    Args:
        trace: the trace to annotate.
        path: a CoNLL-U file, or a folder of them.
        tags: upos, tag (the column XPOS), dep or morph, an annotation each.
        pieces: which tokens of a word carry its tag (see `align_to_words`).
        progress: called with (documents done, documents in all).

    Returns:
        An annotation of tokens for each tag, named ``gold_upos`` and so on. `documents_without_gold` of its provenance
        counts documents whose text is not in the treebank.

    Raises:
        AnnotationError: an unknown tag, no file, no text of the trace in it, or tokens that do not fit their text.
        CorpusError: the file is not CoNLL-U.
    """
    encoders = make_encoders(tags)
    missing = [tag for tag in tags if tag not in _COLUMNS]
    if missing:
        raise AnnotationError(f"a treebank has {', '.join(_COLUMNS)}, not {missing[0]}: leave it out")
    carrier = Carrier(trace, pieces=pieces, width=len(encoders))
    wanted = set(carrier.texts)
    gold: dict[str, list[TreebankDocument]] = {}
    for document in read_gold(path):
        if document.text in wanted:
            gold.setdefault(document.text, []).append(document)
    done = 0
    for row, text in enumerate(carrier.texts):
        if text in gold:
            # documents of one text take turns; the last serves those that are left
            own = gold[text].pop(0) if len(gold[text]) > 1 else gold[text][0]
            columns = [encoders[tag].encode(_read(word, tag) for word in own.words) for tag in encoders]
            carrier.carry(row, np.array(own.spans, dtype=np.int64).reshape(-1, 2), np.stack(columns, axis=1))
            done += 1
        if progress is not None:
            progress(row + 1, len(carrier.texts))
    if not done:
        raise AnnotationError(
            f"{path}: expected the texts of this trace, found none of them; trace the treebank itself: "
            f"specialize trace MODEL {path} -o RUN"
        )
    provenance = {"tool": "treebank", "file": Path(path).name, "documents_without_gold": len(carrier.texts) - done}
    return carrier.annotate(encoders, provenance, prefix=PREFIX)


def language_of_treebank(path: str | Path) -> str | None:
    """Read the language from a file name of Universal Dependencies, "de_pud-ud-test.conllu"; None from any other."""
    code, mark, _ = Path(path).name.partition("_")
    return code if mark and "-ud-" in Path(path).name and code.isalpha() and len(code) <= 3 else None


def read_gold(path: str | Path) -> Iterator[TreebankDocument]:
    """Yield the documents of a CoNLL-U file, or of all such files in a folder by name.

    Raises:
        AnnotationError: there is no such file.
        CorpusError: a file is not CoNLL-U.
    """
    place = Path(path)
    files = sorted(place.glob("*.conllu")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise AnnotationError(f"{path}: expected a CoNLL-U file, or a folder of *.conllu, found none")
    for file in files:
        yield from read_treebank(file, file.name)


def _read(word: Word, tag: str) -> str:
    label: str = getattr(word, _COLUMNS[tag])
    if label == "_":
        return NONE if tag == "morph" else ""
    return label
