"""Reader of CoNLL-U treebanks, which restores the running text from sentences and words.

Format: https://universaldependencies.org/format.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from specialize.corpus.document import Document, Record
from specialize.corpus.lines import read_lines
from specialize.errors import CorpusError

_NUM_COLUMNS = 10
_MOST_DIGITS = 9  # of a word number


@dataclass
class Word:
    """A surface token with the annotation of its (first) syntactic word; "_" if there is none."""

    form: str
    space_after: bool
    upos: str = "_"
    xpos: str = "_"
    feats: str = "_"
    deprel: str = "_"


@dataclass
class Sentence:
    """One sentence: its comments by key, and its surface tokens."""

    line_number: int
    comments: dict[str, str] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)

    @property
    def gap(self) -> str:
        """The text between this sentence and the next one in the same paragraph."""
        return " " if self.words[-1].space_after else ""

    def locate(self) -> tuple[str, list[tuple[int, int]]]:
        """Return the text, and start and end (exclusive) of each word in it.

        The text is the `# text` comment if it contains the words in order, with only white space between them; else it
        is joined from the forms according to `SpaceAfter`.
        """
        text = self.comments.get("text", "")
        spans = self._find_words(text) if text else None
        return (text, spans) if spans is not None else self._join_words()

    def _find_words(self, text: str) -> list[tuple[int, int]] | None:
        spans, end = [], 0
        for word in self.words:
            start = text.find(word.form, end)
            if start < 0 or text[end:start].strip():
                return None
            end = start + len(word.form)
            spans.append((start, end))
        return None if text[end:].strip() else spans

    def _join_words(self) -> tuple[str, list[tuple[int, int]]]:
        parts, spans, end = [], [], 0
        for word in self.words:
            spans.append((end, end + len(word.form)))
            parts += [word.form, " " * word.space_after]
            end += len(word.form) + word.space_after
        return "".join(parts[:-1]), spans


@dataclass
class TreebankDocument:
    """A document restored from its sentences.

    Attributes:
        where: file and line, for messages.
        id: of `# newdoc id`; None if there is none.
        text: running text.
        words: the surface tokens.
        spans: start and end (exclusive) of each word in the text.
    """

    where: str
    id: str | None
    text: str = ""
    words: list[Word] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)


def read_conllu(path: Path, name: str) -> Iterator[Record]:
    """Yield one document per `# newdoc`, or the whole file if there is none.

    Paragraphs (`# newpar`) are separated by a blank line. The id is that of `# newdoc id`, else the number of the
    document in the file, from 0.

    Raises:
        CorpusError: a word line without ten columns, or without the number or the form of the word, naming the file and
            line.
    """
    for number, document in enumerate(read_treebank(path, name)):
        yield Record(document.where, Document(document.id or str(number), document.text))


def read_treebank(path: Path, name: str) -> Iterator[TreebankDocument]:
    """Yield the documents of `read_conllu` with their words.

    Raises:
        CorpusError: as `read_conllu`.
    """
    document, parts, end, gap = TreebankDocument(name, None), list[str](), 0, ""
    for sentence in read_sentences(path, name):
        if "newdoc" in sentence.comments:
            if parts:
                document.text = "".join(parts)
                yield document
            document, parts, end = TreebankDocument(name, sentence.comments["newdoc"] or None), [], 0
        if parts:
            parts.append("\n\n" if "newpar" in sentence.comments else gap)
            end += len(parts[-1])
        else:
            document.where = f"{name}, line {sentence.line_number}"
        text, spans = sentence.locate()
        document.words += sentence.words
        document.spans += [(end + first, end + last) for first, last in spans]
        parts.append(text)
        end, gap = end + len(text), sentence.gap
    if parts:
        document.text = "".join(parts)
        yield document


def read_sentences(path: Path, name: str) -> Iterator[Sentence]:
    """Yield the sentences of a file.

    A multiword token ("zum" for zu + dem) is one word with the annotation of its first syntactic word. Empty nodes are
    skipped.
    """
    sentence: Sentence | None = None
    covered = 0  # last word number of the multiword token being read
    for number, raw in read_lines(path, name):
        line = raw.rstrip("\r\n")
        if not line.strip():
            if sentence is not None and sentence.words:
                yield sentence
            sentence, covered = None, 0
            continue
        if sentence is None:
            sentence = Sentence(number)
        if line.startswith("#"):
            _add_comment(sentence, line)
            continue
        columns = line.split("\t")
        if len(columns) != _NUM_COLUMNS:
            raise CorpusError(
                f"{name}, line {number}: expected {_NUM_COLUMNS} tab-separated columns, got {len(columns)}"
            )
        word = columns[0]
        if "." in word:
            continue
        if "-" in word:
            first, _, last = word.partition("-")
            covered = _word_number(last, name, number)
            if _word_number(first, name, number) > covered:
                raise CorpusError(f"{name}, line {number}: expected a range of words such as 3-4, got {word!r:.40}")
        elif _word_number(word, name, number) <= covered:
            if sentence.words[-1].upos == "_":
                _annotate(sentence.words[-1], columns)
            continue
        if not columns[1].strip():
            raise CorpusError(f"{name}, line {number}: expected the form of a word in the second column, got a blank")
        sentence.words.append(Word(columns[1], "SpaceAfter=No" not in columns[9].split("|")))
        _annotate(sentence.words[-1], columns)
    if sentence is not None and sentence.words:
        yield sentence


def _annotate(word: Word, columns: list[str]) -> None:
    word.upos, word.xpos, word.feats, word.deprel = columns[3], columns[4], columns[5], columns[7]


def _add_comment(sentence: Sentence, line: str) -> None:
    key, _, value = line.removeprefix("#").partition("=")
    key = key.strip()
    if key.endswith(" id"):  # "newdoc id = x" and a bare "newdoc" mean the same mark
        key = key.removesuffix(" id")
    sentence.comments[key] = value.strip()


def _word_number(word: str, name: str, line: int) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS) or not int(word):
        raise CorpusError(
            f"{name}, line {line}: expected a word number in the first column, 1 or more, got {word!r:.40}"
        )
    return int(word)
