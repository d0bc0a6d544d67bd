"""A local copy of what lies at an address: filled as it is needed, and stored when a file or a command is finished."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

from specialize.addresses import copy_of, register
from specialize.errors import OutputError, StoreError
from specialize.events import SILENT, Progress, Reporter
from specialize.rate import Rate
from specialize.remote.address import MANIFEST, Address
from specialize.remote.cache import find_object, keep_folder, link_or_copy
from specialize.remote.local_files import CopiedFile, Stamp, is_of_trace, is_plain, list_files, stamp_of
from specialize.remote.store import BUSY, Stored, open_store
from specialize.text import format_bytes

Want = Literal["now", "when read", "name"]  # download a file, wait until it is read, or let an empty one stand for it
_AT_ONCE = 4  # downloads
_LARGE = 2**24  # bytes of a file of a corpus whose download is shown


class WorkingCopy:
    """The local copy of a run, a report or a corpus at an address.

    A file that is finished in the folder is stored at once, unless the copy holds back what a command writes. Hidden
    files are not stored.

    Args:
        address: what is copied.
        folder: the local folder.
        is_read_only: whether nothing is written to the folder, so that its files may be those that are kept.

    Attributes:
        address: what is copied.
        folder: the local folder.
        reporter: receives what is downloaded and stored.
    """

    def __init__(self, address: Address, folder: Path, *, is_read_only: bool = False) -> None:
        self.address, self.folder = address, folder
        self._is_read_only = is_read_only
        self.reporter: Reporter = SILENT
        self._store = open_store(address.protocol)
        self._files: dict[str, CopiedFile] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._users = 0  # functions that work in the folder
        self._held = 0  # those of them that hold back what they write
        self._has_unstored = False
        register(folder, self)

    @property
    def manifest(self) -> Stored | None:
        """The manifest in the store, as it was last seen; None if there was none."""
        file = self._files.get(MANIFEST)
        return None if file is None else file.stored

    def refresh(
        self,
        want: Callable[[str], Want],
        *,
        check: Callable[[Collection[str]], None] | None = None,
        found: Mapping[str, Stored] | None = None,
    ) -> None:
        """Make the folder a copy of what the store holds now.

        Args:
            want: what to do with a file that is not here, by its name below the address; the name is empty if the
                address is that of a file.
            check: called with the names of all files before any is downloaded.
            found: what the store holds, if that is known.

        Raises:
            StoreError: the store cannot be read.
            OutputError: the folder cannot be written.
        """
        if self._users:  # a function that has seen the store, and calls this one
            self._fill(want)
            return
        if self._has_unstored:
            self._store_changes()
        listed = self._store.list(self.address) if found is None else found
        found = {name: stored for name, stored in listed.items() if is_plain(name) and self._is_own(name)}
        if check is not None:
            check(found.keys())
        before, self._files = self._files, {}
        for name in {*filter(self._is_own, before), *self._list_local()} - found.keys():
            self._path(name).unlink(missing_ok=True)
        for name, stored in found.items():
            known, path = before.get(name), self._path(name)
            is_same = known is not None and known.stored.is_same(stored) and known.stamp == stamp_of(path)
            if known is None or not is_same:
                known = CopiedFile(stored)
                path.unlink(missing_ok=True)
            self._files[name] = known
        self._fill(want)

    def _fill(self, want: Callable[[str], Want]) -> None:
        wanted = []
        try:
            for name, file in list(self._files.items()):
                path, how = self._path(name), want(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if how == "now" and not file.is_here:
                    wanted.append(name)
                elif how == "name" and file.stamp is None:
                    path.touch()
                    file.stamp, file.is_empty = stamp_of(path), True
        except OSError as error:
            raise OutputError(
                f"{self.address}: could not be copied to {self.folder} ({error.strerror or error})"
            ) from error
        self._download(wanted)

    def _download(self, names: Sequence[str]) -> None:
        """Download files, some at a time."""
        sizes = [self._files[each].stored.size for each in names if not self._object(each).is_file()]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="download") as threads:
            if not sizes:
                list(threads.map(self._fetch, names))
                return
            self.reporter.say(f"{self.address}: {len(sizes):,} files to download, {format_bytes(sum(sizes))}")
            with self.reporter.progress("downloading", "files") as update:
                rate = Rate(10.0)
                for done, name in enumerate(threads.map(self._fetch, names), 1):
                    rate.count(self._files[name].stored.size)
                    update(done, len(names), rate=f"{format_bytes(round(rate.value))}/s")

    def _fetch(self, name: str, *, progress: Progress | None = None) -> str:
        file, path = self._files[name], self._path(name)
        with self._locks[name]:
            if not file.is_here:
                kept = self._object(name)
                if not kept.is_file():
                    self._store.get(self.address.below(name), kept, file.stored, progress=progress)
                link_or_copy(kept, path, link=self._is_read_only or is_of_trace(name))
                file.stamp, file.is_empty = stamp_of(path), False
        return name

    def fetch(self, path: Path) -> None:
        """Download a file that the folder lacks, if the store has it."""
        name = self._name(path)
        if name not in self._files or self._files[name].is_here:
            return
        if not self._is_read_only or self._files[name].stored.size < _LARGE or self._object(name).is_file():
            self._fetch(name)
            return
        with self.reporter.progress(f"downloading {self.address.below(name)}", "MB") as update:
            self._fetch(name, progress=lambda done, total: update(done // 10**6, total // 10**6))

    def prefetch(self) -> None:
        """Download all files of the trace that the folder lacks."""
        self._download([name for name, file in list(self._files.items()) if is_of_trace(name) and not file.is_here])

    def fetch_again(self, path: Path) -> bool:
        """Download a file as it is in the store now; return whether it is there."""
        name = self._name(path)
        if name not in self._files:
            return False
        stored = self._store.look(self.address.below(name))
        if stored is None:
            return False
        self._object(name).unlink(missing_ok=True)
        self._files[name] = CopiedFile(stored)
        self._fetch(name)
        return True

    def size_of(self, path: Path) -> int | None:
        """Return the bytes of a file, here or in the store; None if there is none."""
        file = self._files.get(self._name(path))
        if file is not None and not file.is_here:
            return file.stored.size
        return path.stat().st_size if path.exists() else None

    def finished(self, path: Path) -> None:
        """Store a file that was written, or remove one that was removed, unless a command holds it back.

        Raises:
            StoreError: the store cannot be written, or another process has changed the manifest.
        """
        name = self._name(path)
        if self._held or not is_plain(name):
            return
        with self._locks[""]:
            self._refuse_changed({MANIFEST: self._store.look(self.address.below(MANIFEST))})
            self._upload(name)

    def _upload(self, name: str) -> None:
        """Store a file as it is here, or remove it from the store if it is not here."""
        path, address = self._path(name), self.address.below(name)
        stamp = stamp_of(path)
        if stamp is None:
            self._store.remove(address)
            self._files.pop(name, None)
            return
        stored = self._store.put(path, address, is_new=name == MANIFEST and name not in self._files)
        self._files[name] = CopiedFile(stored, stamp)
        kept = self._object(name)
        link_or_copy(path, kept, link=is_of_trace(name))

    def store_changes(self) -> None:
        """Store every file that is not stored as it is here, the manifest last, and remove those that are not here.

        Raises:
            StoreError: the store cannot be written, or another process has changed one of the files since they were
                read. What is not stored yet is kept.
        """
        try:
            self._store_changes()
        except StoreError as error:
            self._has_unstored = True
            raise StoreError(f"{error}; what is not stored yet is kept in {keep_folder()}") from None

    def _store_changes(self) -> None:
        local = self._list_local()
        known = {name: file.stamp for name, file in self._files.items() if self._is_own(name)}
        changed = [name for name, stamp in local.items() if known.get(name) != stamp]
        changed += [name for name, stamp in known.items() if stamp is not None and name not in local]
        if changed:
            now = self._store.list(self.address)
            self._refuse_changed({name: now.get(name) for name in (MANIFEST, *changed)})
            # in the order in which they were written, after those that were removed, which may belong to others
            changed.sort(key=lambda name: (name == MANIFEST, local.get(name, (0, 0, 0))[1], name))
            with self.reporter.progress(f"storing {self.address}", "files") as update:
                for done, name in enumerate(changed, 1):
                    self._upload(name)
                    update(done, len(changed))
        self._has_unstored = False

    def _refuse_changed(self, now: dict[str, Stored | None]) -> None:
        """Raise StoreError if the store holds other files than when they were read or written here."""
        for name, stored in now.items():
            file = self._files.get(name)
            if (stored is None) != (file is None) or (file is not None and not file.stored.is_same(stored)):
                raise StoreError(
                    f"{self.address}: another process has changed {name} since it was read; nothing was overwritten: "
                    f"{BUSY}"
                )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the folder be as it is during the block, whatever the store holds."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Store what is written in the block at its end; if it fails, nothing is stored."""
        self._held += 1
        try:
            yield
        except BaseException:
            if self._held == 1:
                self._drop_changes()
            raise
        finally:
            self._held -= 1
        if not self._held:
            self.store_changes()

    def _drop_changes(self) -> None:
        for name, stamp in self._list_local().items():
            file = self._files.get(name)
            if file is None or file.stamp != stamp:
                self._path(name).unlink(missing_ok=True)

    def _list_local(self) -> dict[str, Stamp]:
        return {
            path.relative_to(self.folder).as_posix(): stamp
            for path, stamp in list_files(self.folder)
            if copy_of(path) is self
        }

    def _is_own(self, name: str) -> bool:
        """Return whether a file is in no other copy inside this one."""
        return copy_of(self._path(name)) is self

    def _object(self, name: str) -> Path:
        return find_object(self.address.below(name), self._files[name].stored)

    def _path(self, name: str) -> Path:
        return self.folder / name if name else self.folder

    def _name(self, path: Path) -> str:
        name = Path(os.path.abspath(path)).relative_to(self.folder).as_posix()
        return "" if name == "." else name
