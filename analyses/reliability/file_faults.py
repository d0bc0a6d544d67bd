"""Damaged files and folders of a run."""

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from analyses.reliability.baseline import Baseline, find
from analyses.reliability.children import Limits
from analyses.reliability.fault import Case, Fault, Injected, register
from analyses.reliability.stages import Stage

SECRET = "the-contents-of-a-file-outside"
_WITHOUT_RUN = ("import",)  # nothing of its run is read: it writes a new one


def files(stage: Stage, baseline: Baseline) -> Sequence[str]:
    """Return the files of the folder that a command works on, those that it reads first."""
    if stage.name in _WITHOUT_RUN:
        return ()
    folder, absent = baseline.state / stage.folder, _absent(stage, baseline)
    found = [path for path in find(folder, ("**/*",)) if path.is_file() and path not in absent]
    read = [path for path in find(folder, stage.reads) if path in found]
    others = [path for path in found if path not in read and path.name != ".lock"]
    return [str(path.relative_to(folder)) for path in (*read, *others)]


def folders(stage: Stage, baseline: Baseline) -> Sequence[str]:
    """Return the folder that a command works on, and those in it."""
    folder, absent = baseline.state / stage.folder, _absent(stage, baseline)
    inner = [path for path in find(folder, ("**/",)) if path != folder and path not in absent]
    return [".", *(str(path.relative_to(folder)) for path in inner)]


def _absent(stage: Stage, baseline: Baseline) -> set[Path]:
    """Return what a file fault does not find: what is in folders that are removed before the command."""
    removed = stage.removed if stage.once else stage.without
    return set(find(baseline.state, [f"{pattern}/**/*" for pattern in removed]))


def read_files(stage: Stage, baseline: Baseline) -> Sequence[str]:
    """Return the files that a command reads beside its folder, relative to that folder."""
    used = [each for name in stage.uses for each in find(baseline.state, (name, f"{name}/**/*"))]
    found = [path for path in used if path.is_file()]
    return [f"../{path.relative_to(baseline.state)}" for path in found]


def files_and_inputs(stage: Stage, baseline: Baseline) -> Sequence[str]:
    """Return the files of a run, and inputs whose damage cannot pass for another input."""
    inputs = [name for name in read_files(stage, baseline) if not name.endswith((".csv", ".jsonl", ".toml"))]
    return [*files(stage, baseline), *inputs]


def _names(case: Case) -> tuple[str, ...]:
    path = Path(case.target)
    parts = {path.name, path.stem, *(part for part in path.parts[:-1] if part not in ("..", "."))}
    return tuple(sorted(parts - {""})) or (case.stage.folder,)


def _damage(change: Callable[[Case, Path], None]) -> Callable[[Case], Injected]:
    def inject(case: Case) -> Injected:
        change(case, case.path)
        return Injected(names=_names(case))

    return inject


def truncate(case: Case, path: Path) -> None:
    """Keep a random part of the beginning."""
    data = path.read_bytes()
    path.write_bytes(data[: case.rng.randrange(1, max(2, len(data)))])


def empty(case: Case, path: Path) -> None:
    """Leave nothing in the file."""
    path.write_bytes(b"")


def _remove(case: Case) -> Injected:
    """Remove the file; an annotation or a result that is missing was perhaps never made."""
    case.path.unlink()
    is_needed = case.stage.folder != "run" or case.target.startswith(("manifest", "trace"))
    return Injected(names=_names(case), optional=not is_needed)


def flip(case: Case, path: Path) -> None:
    """Flip a random bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[case.rng.randrange(len(data))] ^= 1 << case.rng.randrange(8)
    path.write_bytes(bytes(data))


def swap(case: Case, path: Path) -> None:
    """Put the file of another run in its place; where that run has none, another file of the same kind."""
    theirs = case.baseline.foreign / case.target
    if case.stage.folder != "run" or not theirs.is_file():
        alike = [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path]
        theirs = case.rng.choice(alike) if alike else path
    path.write_bytes(theirs.read_bytes())


def _link(case: Case) -> Injected:
    outside = case.here / "outside"
    outside.mkdir()
    shutil.move(case.path, outside / case.path.name)
    case.path.symlink_to(Path(os.path.relpath(outside, case.path.parent.resolve())) / case.path.name)
    return Injected(names=_names(case))


def _link_foreign(case: Case) -> Injected:
    outside = case.here / "outside.txt"
    outside.write_text(f"{SECRET}\n" * 20, encoding="utf-8")
    case.path.unlink()
    case.path.symlink_to(os.path.relpath(outside, case.path.parent.resolve()))
    return Injected(names=_names(case), hidden=SECRET)


def _lock(case: Case) -> Injected:
    case.path.chmod(0)
    return Injected(names=_names(case), limits=Limits(permissions=True))


def _file_for_folder(case: Case) -> Injected:
    shutil.rmtree(case.path, ignore_errors=True)
    case.path.write_text("a file\n", encoding="utf-8")
    return Injected(names=_names(case))


def _folder_for_file(case: Case, path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "a file").write_text("in it\n", encoding="utf-8")


def _move(case: Case) -> Injected:
    new = case.target
    (case.here / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(case.folder, case.here / new)
    arguments = tuple(new if argument == case.stage.folder else argument for argument in case.stage.arguments)
    return Injected(names=(new,), arguments=arguments, renamed={case.stage.folder: new})


def _places(stage: Stage, baseline: Baseline) -> Sequence[str]:
    return () if stage.name in _WITHOUT_RUN else ("moved-1", "elsewhere/moved-2", "a folder ü/moved-3")


def _entries(stage: Stage, baseline: Baseline) -> Sequence[str]:
    """Return changes of the entries of a manifest, as ``path=change``."""
    path = baseline.state / stage.folder / "manifest.json"
    if stage.name in _WITHOUT_RUN or not path.is_file():
        return ()
    entries = [f"{place}={change}" for place in _list_places(json.loads(path.read_bytes())) for change in _CHANGES]
    random.Random(stage.name).shuffle(entries)
    return entries


def _list_places(value: object, before: tuple[str, ...] = ()) -> list[str]:
    here = [".".join(before)] if before else []
    if isinstance(value, dict):
        return here + [place for key, item in value.items() for place in _list_places(item, (*before, key))]
    if isinstance(value, list):
        kept = {0, len(value) - 1} & set(range(len(value)))
        return here + [place for i in sorted(kept) for place in _list_places(value[i], (*before, str(i)))]
    return here


_CHANGES = {
    "missing": None,
    "null": lambda value: None,
    "another type": lambda value: 7 if isinstance(value, str) else "seven",
    "negative": lambda value: -1,
    "one more": lambda value: value + 1 if type(value) is int else True,
    "huge": lambda value: 10**30,
    "outside": lambda value: "../../outside.txt",
    "long": lambda value: "x" * 5000,
    "nested": lambda value: _nest(200),
    "list": lambda value: [],
    "another text": lambda value: f"{value}x" if isinstance(value, str) else {"x": 1},
}


def _nest(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def _edit_manifest(*, sign: bool) -> Callable[[Case], Injected]:
    def inject(case: Case) -> Injected:
        path = case.folder / "manifest.json"
        manifest = json.loads(path.read_bytes())
        place, _, change = case.target.rpartition("=")
        *before, last = place.split(".") if place in manifest else _split(manifest, place)
        holder = manifest
        for key in before:
            holder = holder[int(key) if isinstance(holder, list) else key]
        key = int(last) if isinstance(holder, list) else last
        if _CHANGES[change] is None:
            del holder[key]
        else:
            holder[key] = _CHANGES[change](holder[key])
        if sign and "digest" in manifest and place != "digest":
            from specialize.manifest import digest_of

            manifest["digest"] = digest_of({name: value for name, value in manifest.items() if name != "digest"})
        path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return Injected(names=("manifest.json", str(last)), right="clean" if not sign else _SIGNED)

    return inject


# Signed by someone who knows how: what it says is taken as it is, if it is possible.
_SIGNED = "either"


def _split(value: object, place: str) -> list[str]:
    """Split a path at the dots that are not part of a key, such as those of file names."""
    if isinstance(value, dict):
        key = next(key for key in sorted(value, key=len, reverse=True) if place == key or place.startswith(f"{key}."))
    elif isinstance(value, list):
        key = place.split(".", 1)[0]
    rest = place[len(key) + 1 :]
    inner = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
    return [key, *(_split(inner, rest) if rest else [])]


register(Fault("file truncated", _damage(truncate), files_and_inputs, of_files=True))
register(Fault("file emptied", _damage(empty), files_and_inputs, often="fixed", of_files=True))
register(Fault("file missing", _remove, files, often="fixed", of_files=True))
register(Fault("file bit flipped", _damage(flip), files_and_inputs, of_files=True))
register(Fault("file swapped with another run's", _damage(swap), files, often="fixed", of_files=True))
register(Fault("file replaced by a folder", _damage(_folder_for_file), files, often="fixed", of_files=True))
register(Fault("file linked outside", _link, files, often="fixed", of_files=True))
register(Fault("file linked to a foreign one", _link_foreign, files, often="fixed", of_files=True))
register(Fault("file unreadable", _lock, files_and_inputs, often="fixed", of_files=True))
register(Fault("folder replaced by a file", _file_for_folder, folders, often="fixed"))
register(Fault("run moved and renamed", _move, _places, often="each"))
register(Fault("manifest entry wrong", _edit_manifest(sign=False), _entries, times=3))
register(Fault("manifest entry wrong, digest right", _edit_manifest(sign=True), _entries, times=3))
