"""Reader of CoNLL-U treebanks: running text rebuilt from sentences and words.

Format: https://universaldependencies.org/format.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from specialize.corpus.document import Document, Record
from specialize.corpus.lines import read_lines
from specialize.errors import CorpusError

_NUM_COLUMNS = 10


@dataclass
class Sentence:
    """One sentence: its comments by key, and its surface tokens as (form, followed by a space)."""

    line_number: int
    comments: dict[str, str] = field(default_factory=dict)
    tokens: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The `# text` comment, else the forms joined as `SpaceAfter` says."""
        if "text" in self.comments:
            return self.comments["text"]
        return "".join(form + " " * space for form, space in self.tokens).rstrip(" ")

    @property
    def gap(self) -> str:
        """What separates this sentence from a next one in the same paragraph."""
        return " " if self.tokens[-1][1] else ""


def read_conllu(path: Path, name: str) -> Iterator[Record]:
    """Yield one document for each `# newdoc`, or the whole file where there is none.

    Paragraphs (`# newpar`) are separated by a blank line. The id is the one of `# newdoc id`, else the
    document's number in the file, from 0.

    Raises:
        CorpusError: a word line without ten columns, naming the file and line.
    """
    text, gap, identifier, where, number = "", "", None, name, 0
    for sentence in read_sentences(path, name):
        if "newdoc" in sentence.comments:
            if text:
                yield Record(where, Document(identifier or str(number), text))
                number += 1
            text, identifier = "", sentence.comments["newdoc"]
        if not text:
            where = f"{name}, line {sentence.line_number}"
        elif "newpar" in sentence.comments:
            text += "\n\n"
        else:
            text += gap
        text += sentence.text
        gap = sentence.gap
    if text:
        yield Record(where, Document(identifier or str(number), text))


def read_sentences(path: Path, name: str) -> Iterator[Sentence]:
    """Yield the sentences of a file. Words inside a multiword token, and empty nodes, are passed over."""
    sentence: Sentence | None = None
    covered = 0  # last word number of the multiword token being read
    for number, raw in read_lines(path, name):
        line = raw.rstrip("\r\n")
        if not line.strip():
            if sentence is not None and sentence.tokens:
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
        if "-" in word:
            covered = _word_number(word.partition("-")[2], name, number)
        elif "." in word or _word_number(word, name, number) <= covered:
            continue
        sentence.tokens.append((columns[1], "SpaceAfter=No" not in columns[9].split("|")))
    if sentence is not None and sentence.tokens:
        yield sentence


def _add_comment(sentence: Sentence, line: str) -> None:
    key, _, value = line.removeprefix("#").partition("=")
    key = key.strip()
    if key.endswith(" id"):  # "newdoc id = x" and a bare "newdoc" mean the same mark
        key = key.removesuffix(" id")
    sentence.comments[key] = value.strip()


def _word_number(word: str, name: str, line: int) -> int:
    if not word.isdecimal():
        raise CorpusError(f"{name}, line {line}: expected a word number in the first column, got {word!r}")
    return int(word)
