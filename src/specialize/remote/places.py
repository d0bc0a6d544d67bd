"""Where functions that take runs, corpora and reports meet addresses.

A function is decorated with `at_addresses`, which says what each of its places is. It works on local paths alone: in
place of an address it gets the path of a copy, and what it has written there is stored when it returns. For local paths
nothing of this happens, and nothing is loaded for it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from inspect import signature
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

from specialize.addresses import copy_of, is_address
from specialize.errors import StoreError
from specialize.events import SILENT, Reporter
from specialize.remote.showing import showing
from specialize.scale.options import EngineOptions

if TYPE_CHECKING:
    from specialize.remote.address import Address
    from specialize.remote.copy import WorkingCopy
    from specialize.remote.roles import Role

P = ParamSpec("P")
T = TypeVar("T")
Place = str | PathLike[str]


def at_addresses(**roles: "Role") -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that lets a function take addresses in place of local paths.

    Args:
        **roles: what the function does with a place, or with each of several, by the name of the parameter. A place
            may also be an open trace.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        parameters = signature(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            bound = parameters.bind(*args, **kwargs)
            if not any(_is_elsewhere(bound.arguments.get(name)) for name in roles):
                return function(*args, **kwargs)
            with ExitStack() as stack:
                _replace(bound.arguments, roles, stack, shows="reporter" in parameters.parameters)
                return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def _replace(values: dict[str, Any], roles: "dict[str, Role]", stack: ExitStack, *, shows: bool) -> None:
    """Put the paths of copies in place of addresses.

    Args:
        values: the arguments of a function, by name; an engine among them must not have workers.
        roles: what the function does with some of them.
        stack: stores what was written when it is closed.
        shows: whether the function has a reporter.
    """
    reporter = showing(values.get("reporter", SILENT))
    if shows:
        values["reporter"] = reporter
    engine = EngineOptions(values.get("engine", "local"))
    for name, role in roles.items():
        given = values.get(name)
        engine.check_run(getattr(given, "path", given))
        if isinstance(given, list | tuple):
            each = [every for one in given for every in _expand(one)]
            values[name] = [_enter(one, role, reporter, stack) for one in each]
        elif given is not None:
            values[name] = _enter(given, role, reporter, stack)


@contextmanager
def local_place(place: Place, role: "Role", *, reporter: Reporter = SILENT) -> Iterator[Path]:
    """Yield the local path of a place, and store what was written there at the end of the block.

    Args:
        place: a local path, which is yielded as it is, or an address.
        role: what is done with it.
        reporter: receives what is downloaded and stored.

    Raises:
        StoreError: the store cannot be reached, read or written.
    """
    if not _is_elsewhere(place):
        yield Path(place)
        return
    with ExitStack() as stack:
        yield Path(_enter(place, role, showing(reporter), stack))


def open_place(place: Place, role: "Role" = "read") -> Path:
    """Return the local path of a place that is read; of an address, that of a copy that lives as long as the process.

    Args:
        place: a local path or an address.
        role: what is done with it.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    if not is_address(place):
        return Path(place)
    with local_place(place, role) as path:
        return path


def folder_of(place: Place) -> Path:
    """Return the path of a place; of an address, that of the copy that it has or would have."""
    if not is_address(place):
        return Path(place)
    from specialize.remote.address import LOCAL, local_path

    address = _read(place)
    return local_path(place) if address.protocol in LOCAL else folder_of_copy(address, "runs")


def is_run_at(source: object) -> TypeGuard[str]:
    """Return whether a source is an address at which there is a run.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    if not is_address(source) or source.startswith("hf://"):
        return False
    from specialize.remote.address import LOCAL, MANIFEST, local_path
    from specialize.remote.store import open_store

    address = _read(source)
    if address.protocol in LOCAL:
        return (local_path(source) / MANIFEST).is_file() and (local_path(source) / "trace").is_dir()
    if any(character in address.path for character in "*?["):
        return False
    return open_store(address.protocol).look(address.below(MANIFEST)) is not None


def is_run(source: object) -> TypeGuard[Place]:
    """Return whether a source is a run folder, by its manifest, or the address of one.

    Raises:
        StoreError: the store cannot be reached or read.
    """
    return is_run_at(source) or (isinstance(source, str | PathLike) and (Path(source) / "manifest.json").is_file())


def _is_elsewhere(value: Any) -> bool:
    """Return whether a value is an address, or in a copy; or a list with one that is."""
    if isinstance(value, list | tuple):
        return any(map(_is_elsewhere, value))
    if is_address(value):
        return True
    path = value if isinstance(value, Path) else getattr(value, "path", None)
    return isinstance(path, Path) and copy_of(path) is not None


def _enter(place: Any, role: "Role", reporter: Reporter, stack: ExitStack) -> Any:
    """Return a place, or in place of an address the path of its copy, which is stored when the stack is closed."""
    from specialize.remote.address import LOCAL, local_path
    from specialize.remote.copy import WorkingCopy
    from specialize.remote.roles import TOGETHER, check_run, choose_files

    if is_address(place):
        address = _read(place)
        if address.protocol in LOCAL:
            return local_path(place)
        if role in ("report", "files"):
            copy, below = _find_copy(address)
        else:
            copy, below = _copy_of_run(address), PurePosixPath()
    else:
        path = place if isinstance(place, Path) else getattr(place, "path", None)
        found = copy_of(path) if isinstance(path, Path) else None
        if not isinstance(found, WorkingCopy) or path is None:
            return place
        copy, below = found, PurePosixPath(path.relative_to(found.folder).as_posix())
    copy.reporter, before = reporter, copy.manifest
    check = None if role in ("report", "files") else partial(check_run, str(copy.address), role)
    copy.refresh(choose_files(role, "" if str(below) == "." else f"{below}/"), check=check)
    if hasattr(place, "manifest") and before is not None and not before.is_same(copy.manifest):
        raise StoreError(f"{copy.address}: another process has changed the run since it was opened; open it again")
    stack.enter_context(copy.used())
    if role in TOGETHER:
        stack.enter_context(copy.holding_back())
    elif role in ("written", "ablated"):
        stack.push(partial(_store_rest, copy))
    return copy.folder / below if is_address(place) else place


def _store_rest(copy: "WorkingCopy", kind: type[BaseException] | None, *_: object) -> None:
    if kind is None:
        copy.store_changes()


def _find_copy(address: "Address") -> "tuple[WorkingCopy, PurePosixPath]":
    """Return the copy of an address, or that of a run that the address is in."""
    from specialize.remote.copy import WorkingCopy

    folder = folder_of_copy(address, "runs")
    found = copy_of(folder)
    if isinstance(found, WorkingCopy):
        return found, PurePosixPath(folder.relative_to(found.folder).as_posix())
    return WorkingCopy(address, folder), PurePosixPath()


def _copy_of_run(address: "Address") -> "WorkingCopy":
    """Return the copy of a run, which is that of no report around it."""
    from specialize.remote.copy import WorkingCopy

    folder = folder_of_copy(address, "runs")
    found = copy_of(folder)
    return found if isinstance(found, WorkingCopy) and found.folder == folder else WorkingCopy(address, folder)


def folder_of_copy(address: "Address", kind: str) -> Path:
    """Return the path of the copy that an address has or would have, as one of runs or corpora."""
    from specialize.remote.cache import process_folder

    return process_folder() / kind / address.protocol / address.path


def _expand(place: Any) -> list[Any]:
    """Return the addresses of the runs that a pattern matches; anything else as it is."""
    if not is_address(place) or not any(character in place for character in "*?["):
        return [place]
    from fnmatch import fnmatchcase

    from specialize.remote.address import LOCAL, MANIFEST, Address
    from specialize.remote.store import open_store

    address = _read(place)
    if address.protocol in LOCAL:
        return [place]
    above, _, pattern = address.path.rpartition("/")
    if any(character in above for character in "*?["):
        raise StoreError(f"{address}: expected wildcards in the last part alone")
    base = Address(address.protocol, above)
    names = {name.rpartition("/")[0] for name in open_store(base.protocol).list(base) if name.endswith(f"/{MANIFEST}")}
    found = sorted(name for name in names if "/" not in name and fnmatchcase(name, pattern))
    if not found:
        raise StoreError(f"{address}: expected runs that match, found none")
    return [str(base.below(name)) for name in found]


def _read(text: str) -> "Address":
    from specialize.remote.address import parse_address

    return parse_address(text)
