"""Corpora at addresses: listed when they are opened, each file downloaded when it is read."""

from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

from specialize.addresses import copy_of, forget_inside
from specialize.errors import CorpusError, StoreError
from specialize.events import SILENT, Reporter
from specialize.remote.address import LOCAL, Address, local_path, parse_address
from specialize.remote.copy import Want, WorkingCopy
from specialize.remote.places import folder_of_copy
from specialize.remote.store import open_store


def local_corpus(source: str, *, reporter: Reporter = SILENT) -> Path:
    """Return the local path of a corpus at an address: of a file, a folder, or a pattern.

    The files of the corpus are downloaded when they are read; until then, empty files stand for them.

    Args:
        source: the address.
        reporter: receives what is downloaded.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    address = parse_address(source)
    if address.protocol in LOCAL:
        return local_path(source)
    parts = address.path.split("/")
    fixed = next((number for number, part in enumerate(parts) if has_magic(part)), len(parts))
    base = Address(address.protocol, "/".join(parts[:fixed]))
    if not base.path:
        raise StoreError(f"{address}: expected a bucket without wildcards")
    _copy_corpus(base, parts[fixed:], reporter)
    return folder_of_copy(base, "corpora").joinpath(*parts[fixed:])


def _copy_corpus(address: Address, pattern: Sequence[str], reporter: Reporter) -> None:
    """List a corpus anew. One that was opened before, and lies in this one or around it, has the same copy.

    Args:
        address: of a file or a folder.
        pattern: what follows, from the first part with a wildcard on.
        reporter: receives what is downloaded.
    """
    folder = folder_of_copy(address, "corpora")
    copy = copy_of(folder)
    if not isinstance(copy, WorkingCopy):
        forget_inside(folder)
        copy = WorkingCopy(address, folder, is_read_only=True)
    single = None if pattern or copy.folder != folder else open_store(address.protocol).look(address)
    copy.reporter = reporter
    depth = None if not pattern or "**" in pattern else len(pattern)
    inside = folder.relative_to(copy.folder).parts

    def want(name: str) -> Want:
        parts = name.split("/")
        is_inside = tuple(parts[: len(inside)]) == inside
        return "name" if is_inside and depth in (None, len(parts) - len(inside)) else "when read"

    copy.refresh(want, found=None if single is None else {"": single})
    if not folder.exists():
        raise CorpusError(f"{address}: expected a file or folder, found none at this address")
