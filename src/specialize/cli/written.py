"""What commands print about the files they wrote: a trace, figures, a report. The path comes last, to be copied."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.addresses import show, size_of
from specialize.cli.console import print_line
from specialize.cli.tables import number, print_facts, print_table, text
from specialize.text import format_bytes

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace
    from specialize.trace.verified import Kind


def bytes_stored(trace: "RoutingTrace", *kinds: "Kind") -> int:
    """Return the bytes of the trace's files of some kinds, of all by default."""
    from specialize.trace.verified import list_files

    files = list_files(trace.path, trace.manifest, *(kinds or ("documents", "tokens", "routing")))
    return sum(size_of(path) for path, _ in files)


def describe_trace(trace: "RoutingTrace") -> dict[str, Any]:
    """Return the contents and size of a trace for a program."""
    part = trace.manifest.get("part")
    return {
        "run": show(trace.path),
        "documents": trace.num_documents,
        "tokens": trace.num_tokens,
        "layers": len(trace.layers),
        "bytes": bytes_stored(trace),
        **({} if part is None else {"part": part}),
    }


def print_trace(trace: "RoutingTrace") -> None:
    """Print the contents and size of a trace, then the path of the run."""
    layers = {router.layer for router in trace.layers}
    controls = len(trace.routers) - len(trace.layers)
    routers = f"{len(trace.layers)}, and {controls} random routers" if controls else len(trace.layers)
    routing = bytes_stored(trace, "routing")
    rows, unit = (trace.num_tokens, "token") if trace.has_tokens else (trace.num_documents, "document")
    each = routing / max(1, rows * len(trace.routers))
    part = trace.manifest.get("part")
    shards = f"{len(trace.manifest['shards'])} of {part['shards']} shards" if part is not None else ""
    facts = {
        **({} if part is None else {"part": f"{part['number']} of {part['of']}, with {shards}"}),
        "documents": f"{trace.num_documents:,}",
        "tokens": f"{trace.num_tokens:,}" if trace.has_tokens else "none, usage by document",
        "layers": f"{len(layers)}, {_range(layers)}",
        "routers": routers,
        "experts per router, E": _range(router.num_experts for router in trace.layers),
        "slots per token, k": _range(router.top_k for router in trace.layers),
        "besides expert ids": ", ".join(trace.contents) or "nothing",
        "size": format_bytes(bytes_stored(trace)),
        "routing": f"{format_bytes(routing)}, {each:.1f} bytes per {unit} and router",
    }
    print_facts(facts)
    print_line(show(trace.path))


def _range(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return str(ordered[0]) if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def print_figures(files: Sequence[Path], folder: str) -> None:
    """Print the figures that were written, a line each with the formats, then the path of their folder."""
    figures = defaultdict(list)
    for path in files:
        figures[path.stem].append(path)
    print_table(
        None,
        [text("figure"), text("formats"), number("size")],
        [[name, _suffixes(paths), _size(paths)] for name, paths in figures.items()],
    )
    print_line(show(folder))


def print_report(page: Path, figures: Sequence[Path]) -> None:
    """Print how much a report's page and the files of its figures are, then the path of the page."""
    names = {path.stem for path in figures}
    print_facts(
        {
            "page": format_bytes(page.stat().st_size),
            "figures": f"{len(names)}, each as {_suffixes(figures)}; {_size(figures)}" if names else "none",
        }
    )
    print_line(show(page))


def stamps(folder: Path) -> set[tuple[Path, int]]:
    """Return the files of a folder, each with its time: what is new in a second look was written in between."""
    return {(path, path.stat().st_mtime_ns) for path in folder.glob("*") if path.is_file()}


def _suffixes(paths: Iterable[Path]) -> str:
    return ", ".join(sorted({path.suffix.removeprefix(".") for path in paths}))


def _size(paths: Iterable[Path]) -> str:
    return format_bytes(sum(path.stat().st_size for path in paths))
