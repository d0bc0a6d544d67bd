"""The fenced blocks and the commands of the documentation."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"(?<!`)`(specialize [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the line that it begins on."""

    page: str
    line: int
    language: str
    text: str


def pages() -> list[Path]:
    """README, CONTRIBUTING and the pages of docs/ that are written by hand."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(name_of(page), text[: match.start()].count("\n") + 1, match["language"], match["text"])
        for match in _FENCE.finditer(text)
    ]


def commands(page: Path) -> Iterator[str]:
    """Every line of a shell block, comments taken off, and every command within a sentence."""
    text = page.read_text(encoding="utf-8")
    shell = [block.text for block in blocks(page) if block.language == "bash"]
    indented = re.findall(r"(?:^ {4}(?:make|specialize|python|pip) .*\n?)+", _FENCE.sub("", text), re.MULTILINE)
    for line in "\n".join([*shell, *indented]).replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+#.*$", "", line).strip()
        if command and not command.startswith("#"):
            yield command
    yield from (match[1] for match in _INLINE.finditer(_FENCE.sub("", text)))
