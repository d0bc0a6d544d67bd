"""Which files a corpus is read from: one, those of a folder, those that match a pattern, or several of these."""

import os
from collections.abc import Sequence
from glob import has_magic, iglob
from os import PathLike
from pathlib import Path

from specialize.addresses import show
from specialize.corpus.files import check_regular
from specialize.corpus.readers import ENDINGS, find_kind
from specialize.errors import CorpusError, did_you_mean


class Files:
    """The files of a corpus, in the order of their paths. They are looked for whenever they are listed.

    A file has the name that it has below a common folder: the folder or the part of a pattern before the first
    wildcard, of several sources the folder that holds all of them. So a folder, a pattern that matches its files and
    a list of its files are the same corpus.

    Args:
        sources: files, folders, and patterns with `*`, `?`, `[…]` or `**`.

    Attributes:
        name: of all of them, for messages and the manifest.

    Raises:
        CorpusError: there is no such file or folder, or a file is of an unknown kind.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        self._sources = sources
        for path in sources:
            if not is_pattern(path):
                require_path(path)
                if not path.is_dir():
                    check_regular(path, str(path))
                    require_kind(path)
        self._base = Path(os.path.commonpath([os.path.abspath(_base_of(path)) for path in sources]))
        self.name = show(sources[0])
        if len(sources) > 1:
            here = Path.cwd()
            base = self._base.relative_to(here) if self._base.is_relative_to(here) else self._base
            self.name = f"{len(sources)} paths in {show(base)}"

    def list(self) -> list[tuple[str, Path]]:
        """Return names and paths of the files.

        Raises:
            CorpusError: there is none.
        """
        found = {os.path.abspath(file): file for source in self._sources for file in list_files(source)}
        if not found:
            which = "that match and end in" if any(map(is_pattern, self._sources)) else "ending in"
            raise CorpusError(f"{self.name}: expected files {which} {ENDINGS}, found none")
        below = sorted((Path(place).relative_to(self._base), file) for place, file in found.items())
        return [(path.as_posix(), file) for path, file in below]


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern with wildcards, and not the name of a file that has such characters."""
    try:
        return has_magic(str(path)) and not path.exists()
    except OSError:
        return False


def list_files(source: Path) -> list[Path]:
    """Return the files that a corpus is read from, in order.

    Args:
        source: a file; or a folder, of which all files of known kinds are read except hidden ones; or a pattern.
    """
    if not (is_pattern(source) or source.is_dir()):
        return [source]
    matching = map(Path, iglob(str(source), recursive=True)) if is_pattern(source) else source.rglob("*")
    base = _base_of(source)
    return sorted(
        each
        for each in matching
        if find_kind(each) is not None
        and not each.is_dir()
        and not any(part.startswith(".") for part in each.relative_to(base).parts)
    )


def _base_of(source: Path) -> Path:
    if is_pattern(source):
        parts = source.parts
        first = next(number for number, part in enumerate(parts) if has_magic(part))
        return Path(*parts[:first])
    return source if source.is_dir() else source.parent


def require_kind(path: Path) -> str:
    """Return the kind of a file; raise CorpusError if it is unknown."""
    kind = find_kind(path)
    if kind is None:
        raise CorpusError(f"{path}: expected a file ending in {ENDINGS}, got {path.suffix or 'no extension'!r}")
    return kind


def require_path(path: str | PathLike[str]) -> None:
    """Raise CorpusError if there is neither a file nor a folder, and suggest its neighbours."""
    path = Path(path)
    try:
        if path.exists():
            return
    except OSError as error:
        raise CorpusError(f"{path}: expected a file or folder, got: {error.strerror or error}") from None
    if not path.parent.is_dir():
        raise CorpusError(f"{path}: expected a file or folder, found no folder {path.parent}")
    siblings = [sibling.name for sibling in path.parent.iterdir()]
    raise CorpusError(f"{path}: expected a file or folder, found none.{did_you_mean(path.name, siblings)}")
