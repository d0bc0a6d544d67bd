"""Several inputs of one format in one import, each under a name that labels its documents."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from specialize.errors import TraceError
from specialize.trace.imports.source import Block, Findings, Source

DEFAULT_LABEL = "input"
_TAKEN = ("id", "text")  # columns of documents


def name_inputs(path: str | PathLike[str] | Mapping[str, str | PathLike[str]], label: str | None) -> dict[str, Path]:
    """Return the inputs by name; a single input without a name has an empty one.

    Args:
        path: one input, or several by name.
        label: column of the names; None if the user gave none.

    Raises:
        TraceError: there is a label without names, no input, or a name or label that no column can hold.
    """
    if not isinstance(path, Mapping):
        if label is not None:
            raise TraceError(
                f"label: expected inputs with names (NAME=PATH), the values of {label!r:.60}, got one path"
            )
        return {"": Path(path)}
    if not path:
        raise TraceError("path: expected at least one input by name, got none")
    if label is not None and (label in _TAKEN or not _is_text(label)):
        raise TraceError(f"label: expected the name of a new column of the documents, got {label!r:.60}")
    for name in path:
        if not _is_text(name):
            raise TraceError(f"{path[name]}: expected a name for the input (NAME=PATH), got {name!r:.60}")
    return {name: Path(each) for name, each in path.items()}


def _is_text(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()


def join_sources(sources: Mapping[str, Source]) -> Source:
    """Return one source of several inputs, one after the other, with documents numbered over all of them.

    Raises:
        TraceError: the inputs differ in layers, routers, number of experts or what they state about the model.
    """
    (first, *_), parts = sources, tuple(sources.values())
    for what, read in _SHARED.items():
        for name, source in sources.items():
            expected, got = read(parts[0]), read(source)
            if got != expected:
                raise TraceError(
                    f"{source.path}: expected the {what} of {first}, {_show(expected)}, got {_show(got)} in {name}; "
                    "import inputs of different models separately"
                )
    return replace(
        parts[0],
        path=", ".join(f"{name}={source.path}" for name, source in sources.items()),
        read=lambda: _read(parts),
        size=sum(source.size for source in parts),
        documents=None,
        notes=tuple(dict.fromkeys(note for source in parts for note in source.notes)),
        findings=lambda: _join_findings(sources),
    )


_SHARED: Mapping[str, Callable[[Source], Any]] = {
    "layers": lambda source: source.layers,
    "routers": lambda source: dict(source.names),
    "number of experts": lambda source: source.num_experts,
    "k": lambda source: source.top_k,
    "facts": lambda source: dict(source.facts),
}


def _join_findings(sources: Mapping[str, Source]) -> Findings:
    found = {name: source.findings() for name, source in sources.items()}
    facts = {name: dict(each.facts) for name, each in found.items() if each.facts}
    notes = tuple(f"{name}: {note}" for name, each in found.items() for note in each.notes)
    return Findings(notes, {"found_in_inputs": facts} if facts else {})


def _show(value: Any) -> str:
    """Return a value for a message: layers as their number, their first and their last."""
    if isinstance(value, tuple) and value:
        return f"{len(value)} layers from {value[0]} to {value[-1]}"
    return f"{value!r:.100}"


def _read(parts: tuple[Source, ...]) -> Iterator[Block]:
    documents = done = 0
    for number, source in enumerate(parts):
        count = 0
        for block in source.read():
            if len(block.document):
                count = int(block.document[-1]) + 1
            yield replace(block, document=documents + block.document, bytes_read=done + block.bytes_read, part=number)
        documents += count
        done += source.size
