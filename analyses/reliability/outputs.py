"""What is in a folder, and whether outputs are those of a clean run.

A file is compared byte by byte. Where bytes differ, the contents are compared: tables without their metadata and
without the name of the run; JSON and text with the name of the run as it was before it was renamed (then pictures,
which show it, are not compared) and without the speed of training; shards of a trace one after the other, wherever one
ends.
"""

import base64
import gzip
import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import markupsafe
from analyses.reliability.baseline import find

_TABLES = (".arrow", ".parquet")
_SPEED = "tokens_per_second"  # of training: never the same twice
_TEXTS = (".json", ".csv", ".html", ".md", ".txt", ".jsonl", ".toml")


def snapshot(folder: Path) -> dict[str, str]:
    """Return what every file of a folder is: SHA-256, target of a link, or type; by path, links not followed."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            relative = str(path.relative_to(folder))
            if stat.S_ISLNK(mode):
                found[relative] = f"link to {path.readlink()}"
            elif stat.S_ISREG(mode):
                found[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif not stat.S_ISDIR(mode):
                found[relative] = "special"
    return found


def differences(
    here: Path, clean: Path, patterns: Sequence[str], *, renamed: Mapping[str, str] | None = None
) -> list[str]:
    """Return the outputs of a command that are not those of the clean run.

    Args:
        here: the folder that holds the outputs.
        clean: the folder of the clean run.
        patterns: of the outputs, in the clean run.
        renamed: new names of folders, by the name in the clean run.

    Returns:
        Paths in the clean run, each with what is wrong; no more than ten.
    """
    renamed = dict(renamed or {})
    wrong = []
    shards: dict[str, list[Path]] = {}
    expected = {str(path.relative_to(clean)): path for path in find(clean, patterns) if path.is_file()}
    got = {_back(str(path.relative_to(here)), renamed): path for path in find(here, move(patterns, renamed))}
    for name in sorted(expected.keys() | {name for name in got if got[name].is_file()}):
        if "/trace/" in name and not name.endswith("documents.arrow"):
            kind = name.rsplit("-", 1)[0]
            shards.setdefault(kind, [])
        elif name not in got:
            wrong.append(f"{name} is missing")
        elif name not in expected:
            wrong.append(f"{name} is new")
        elif not _same(got[name], expected[name], renamed):
            wrong.append(f"{name} differs")
    for kind in shards:
        ours, theirs = ([group[name] for name in sorted(group) if name.startswith(kind)] for group in (got, expected))
        if not _same_shards(ours, theirs):
            wrong.append(f"{kind}-* differ")
    return wrong[:10]


def move(patterns: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Return patterns of outputs in folders that were renamed."""
    for old, new in renamed.items():
        patterns = [new + pattern[len(old) :] if pattern.startswith(f"{old}/") else pattern for pattern in patterns]
    return list(patterns)


def _back(text: str, renamed: Mapping[str, str]) -> str:
    for old, new in renamed.items():
        quoted = shlex.quote(new)
        for name in (str(markupsafe.escape(quoted)), quoted, new, new.rsplit("/", 1)[-1]):
            text = text.replace(name, old)
    return text


def _same(path: Path, expected: Path, renamed: Mapping[str, str]) -> bool:
    try:
        if path.read_bytes() == expected.read_bytes():
            return True
        return bool(_contents(path, renamed) == _contents(expected, renamed))
    except Exception:  # what cannot be read is not the same
        return False


def _contents(path: Path, renamed: Mapping[str, str]) -> Any:
    """Return what a file says, without what may differ between runs that say the same."""
    if path.suffix in _TABLES:
        table = _read_table(path)
        return table.drop([name for name in ("run",) if name in table.column_names]).replace_schema_metadata(None)
    if path.suffix in _TEXTS:
        text = _back(_unpack(path.read_text(encoding="utf-8")), renamed)
        if path.suffix == ".html" and renamed:
            text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
        if path.suffix == ".json":
            return _drop(json.loads(text), {_SPEED, "digest"} if renamed else {_SPEED})
        return re.sub(r"[\d.]+$", "", text, flags=re.MULTILINE) if _SPEED in text.partition("\n")[0] else text
    return path.read_bytes() if not renamed or path.suffix != ".png" else None  # it shows the name


def _unpack(text: str) -> str:
    """Return a page with the tables that it packs, which hold the name of the run."""
    packed = r"data:application/gzip;base64,([\w+/=]+)"
    return re.sub(packed, lambda found: gzip.decompress(base64.b64decode(found[1])).decode(), text)


def _drop(value: Any, keys: set[str]) -> Any:
    """Return JSON without the values of some keys."""
    if isinstance(value, dict):
        return {key: _drop(item, keys) for key, item in value.items() if key not in keys}
    return [_drop(item, keys) for item in value] if isinstance(value, list) else value


def _same_shards(ours: Sequence[Path], theirs: Sequence[Path]) -> bool:
    import pyarrow as pa

    if [path.name for path in ours] == [path.name for path in theirs] and all(
        path.is_file() and path.read_bytes() == other.read_bytes() for path, other in zip(ours, theirs, strict=True)
    ):
        return True
    try:
        first, second = (pa.concat_tables([_read_table(path) for path in paths]) for paths in (ours, theirs))
    except Exception:  # missing or unreadable
        return False
    return bool(first.combine_chunks().equals(second.combine_chunks()))


def _read_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return pa.parquet.ParquetFile(path).read()
    with pa.ipc.open_file(path) as file:
        return file.read_all()
