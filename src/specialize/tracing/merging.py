"""The parts of a trace joined into the whole: the same bytes as if it had been made at once."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialize.errors import OutputError, TraceError
from specialize.events import SILENT, Reporter
from specialize.text import list_names
from specialize.trace import RoutingTrace, open_trace
from specialize.trace.files import read_batches, write_arrow, xxh3_of
from specialize.trace.folders import whole_folder
from specialize.trace.manifest import read_manifest, write_manifest
from specialize.trace.parts import Part, part_of
from specialize.trace.schema import shard_files
from specialize.trace.unfinished import describe_changes
from specialize.trace.verified import list_files, verify_ahead
from specialize.tracing.documents import batch_rows

_OF_THE_WHOLE = ("routers", "contents", "roles")


@dataclass(frozen=True)
class _StoredPart:
    """A part on disk: its run folder, its manifest, and which one it is."""

    run: Path
    manifest: dict[str, Any]
    part: Part

    @property
    def shards(self) -> list[dict[str, Any]]:
        shards: list[dict[str, Any]] = self.manifest["shards"]
        return shards


def merge_parts(
    runs: Sequence[Path], run: Path, *, command: str | None = None, reporter: Reporter = SILENT
) -> RoutingTrace:
    """Join the parts of a trace, see `specialize.merge`.

    Args:
        runs: run folders of the parts, in any order.
        run: the run folder to make.
        command: the command line, for the manifest.
        reporter: receives the progress, and a note if the parts were traced in different ways that are allowed.
    """
    parts = _read_parts(runs)
    with whole_folder(run) as partial:
        (partial / "trace").mkdir()
        shards = _join_shards(parts, partial, reporter)
        documents = _join_documents(parts, partial)
        first = parts[0].manifest
        kept = {key: value for key, value in first.items() if key not in ("part", "shards", "documents")}
        merged_from = [
            {"part": each.part.number, **{key: each.manifest.get(key) for key in ("command", "versions")}}
            for each in parts
        ]
        facts = {"command": command, "shards": shards, "documents": documents, "merged_from": merged_from}
        write_manifest(partial, kept | facts)
    for note in _differences(parts):
        reporter.say(f"note: {note}")
    return open_trace(run)


def _read_parts(runs: Sequence[Path]) -> list[_StoredPart]:
    """Return the parts by number; raise TraceError unless they are all parts of one trace, and complete."""
    found: dict[int, _StoredPart] = {}
    for run in runs:
        manifest = read_manifest(run, complete=False)
        part = part_of(manifest)
        if part is None:
            raise TraceError(f"{run}: expected a part of a trace, as --shard makes it, got a whole one; leave it out")
        stored = _StoredPart(run, manifest, part)
        first = next(iter(found.values()), stored)
        if part.of != first.part.of:
            raise TraceError(f"expected parts of one trace, got {first.part} ({first.run}) and {part} ({run})")
        twice = found.setdefault(part.number, stored)
        if twice is not stored:
            raise TraceError(f"expected each part once, got {part} twice ({twice.run} and {run}); leave one out")
        _check_same(first, stored)
    if not found:
        raise TraceError("expected the run folders of all parts of a trace, got none")
    first = next(iter(found.values()))
    _check_complete(found, first)
    parts = [found[number] for number in sorted(found)]
    numbers = sorted(shard["number"] for each in parts for shard in each.shards)
    count = first.manifest["part"]["shards"]
    if len(numbers) != count or numbers != list(range(len(numbers))):
        raise TraceError(
            f"expected each of {count} shards in one part, got {len(numbers)} in "
            f"{list_names(each.run for each in parts)}; trace the parts again with one version of specialize"
        )
    return parts


def _check_same(first: _StoredPart, other: _StoredPart) -> None:
    """Raise TraceError unless two parts are of one model, corpus and settings."""
    details = describe_changes(
        first.manifest.get("settings", {}),
        other.manifest.get("settings", {}),
        where=(f"in {first.run}", f"in {other.run}"),
        part=other.part,
    )
    if details:
        raise TraceError(f"expected parts of one trace, got parts with other settings ({details})")
    if not (first.manifest.get("corpus") and other.manifest.get("corpus")):  # the one was killed before it wrote any
        return
    for key in ("digest", "group"):
        if first.manifest["corpus"].get(key) != other.manifest["corpus"].get(key):
            what = "the documents" if key == "digest" else "the column of groups"
            raise TraceError(
                f"expected parts of one trace, got another corpus: {what} in {other.run} and {first.run} differ; trace "
                "the same corpus"
            )
    for key in _OF_THE_WHOLE:
        if first.manifest.get(key) != other.manifest.get(key):
            raise TraceError(f"expected parts of one trace, got others: {key} in {other.run} and {first.run} differ")


def _check_complete(found: dict[int, _StoredPart], first: _StoredPart) -> None:
    """Raise TraceError if parts are missing or unfinished; all of them are named."""
    unfinished = [f"{each.part} ({each.run})" for each in found.values() if not each.manifest["complete"]]
    missing = [number for number in range(1, first.part.of + 1) if number not in found]
    problems = []
    if unfinished:
        problems.append(f"unfinished: {list_names(unfinished, longest=300)}; repeat its trace to resume it")
    shard = f"{missing[0]}/{first.part.of}" if missing else ""
    if len(missing) == 1:
        problems.append(f"missing: part {missing[0]}; trace it with --shard {shard}, or add its folder")
    elif missing:
        problems.append(f"missing: parts {list_names(missing)}; trace each with --shard, as {shard}, or add its folder")
    if problems:
        raise TraceError(f"expected all {first.part.of} parts of the trace, complete; {'; '.join(problems)}")
    counts = {each.manifest["part"]["shards"] for each in found.values()}
    if len(counts) > 1:
        raise TraceError(
            f"expected parts of one trace, got some of {' and '.join(map(str, sorted(counts)))} shards; trace the "
            "parts again with one version of specialize"
        )


def _join_shards(parts: Sequence[_StoredPart], folder: Path, reporter: Reporter) -> list[dict[str, Any]]:
    """Take over the files of all shards under their numbers in the whole trace; return their entries."""
    entries: dict[int, dict[str, Any]] = {}
    total, done = 2 * sum(len(each.shards) for each in parts), 0
    with reporter.progress("merging", "files") as update:
        for each in parts:
            names = [
                (place, kind, shard["number"]) for kind in (0, 1) for place, shard in enumerate(each.shards)
            ]  # as they are listed below
            files = verify_ahead(list_files(each.run, each.manifest, "tokens", "routing"))
            for path, (place, kind, number) in zip(files, names, strict=True):
                name = shard_files(number)[kind]
                _take_over(path, folder / "trace" / name)
                entry = entries.setdefault(number, _entry_of(each.shards[place]))
                for key in ("files", "xxh3"):
                    if path.name in each.shards[place].get(key, {}):
                        entry[key][name] = each.shards[place][key][path.name]
                done += 1
                update(done, total)
    return [entries[number] for number in sorted(entries)]


def _entry_of(shard: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a shard as in a whole trace, whose files are still to be named."""
    return {key: value for key, value in shard.items() if key != "number"} | {"files": {}, "xxh3": {}}


def _join_documents(parts: Sequence[_StoredPart], folder: Path) -> dict[str, Any]:
    """Take over the documents, which all parts hold, and return their entry.

    Where something was generated, a text ends with it in the part that traced the document alone.
    """
    name, first = "documents.arrow", parts[0].manifest["documents"]
    same = all(each.manifest["documents"]["sha256"] == first["sha256"] for each in parts)
    read = parts[:1] if same else parts
    paths = list(verify_ahead(file for each in read for file in list_files(each.run, each.manifest, "documents")))
    if same:
        _take_over(paths[0], folder / "trace" / name)
        return dict(first)
    if not parts[0].manifest["settings"].get("generate"):
        raise TraceError(f"expected the same documents in all parts, got others in {list_names(paths, longest=300)}")
    schema = next(read_batches(paths[0])).schema
    batches = batch_rows(_longest_texts(paths), schema)
    checksum = write_arrow(folder / "trace" / name, schema, batches)
    return {"count": first["count"], "sha256": checksum, "xxh3": xxh3_of(folder / "trace" / name)}


def _longest_texts(paths: Sequence[Path]) -> Iterator[dict[str, str | None]]:
    for rows in zip(*map(_rows, paths), strict=True):
        yield max(rows, key=lambda row: len(row["text"] or ""))


def _rows(path: Path) -> Iterator[dict[str, str | None]]:
    for batch in read_batches(path):
        yield from batch.to_pylist()


def _take_over(path: Path, target: Path) -> None:
    """Give a file, which no writer changes in place, a second name; copy it where that is not possible."""
    try:
        os.link(os.path.realpath(path), target)
    except OSError:  # another file system, or one without links
        try:
            shutil.copyfile(path, target)
            with target.open("rb+") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{target}: could not be written ({error.strerror or error})") from error


def _differences(parts: Sequence[_StoredPart]) -> Iterator[str]:
    """Yield how the parts were traced in ways that are allowed to differ, one line each."""
    sizes = {shard.get("batch_tokens") for each in parts for shard in each.shards}
    if len(sizes) > 1:
        listed = list_names(f"{size:,}" for size in sorted(size or 0 for size in sizes))
        yield (
            f"memory ran out in some shards, whose batches are smaller ({listed} tokens): near-ties between experts "
            "may be resolved differently there than in a trace made at once"
        )
    first = parts[0].manifest.get("versions") or {}
    for each in parts[1:]:
        own = each.manifest.get("versions") or {}
        changed = [name for name in sorted({*first, *own}) if first.get(name) != own.get(name)]
        if changed:
            details = ", ".join(f"{name} {first.get(name)} and {own.get(name)}" for name in changed)
            yield f"{parts[0].run} and {each.run} were traced with different versions: {details}"
