"""Commands that are ended, that lack room or permission, or that run twice at once."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from analyses.reliability.baseline import Baseline, find
from analyses.reliability.children import Child, Finished, Limits
from analyses.reliability.fault import Case, Fault, Injected, register
from analyses.reliability.file_faults import flip
from analyses.reliability.stages import Stage

_PAGE = 4096
_ROOM = 1 << 30  # bytes of the disk before it is filled, and when room was made
_REMOUNT, _DETACH = 32, 2  # flags of mount and umount2


def _end(number: int) -> Callable[[Case], Injected]:
    """End the command by a signal at a random moment of the time that it takes undisturbed."""

    def inject(case: Case) -> Injected:
        after = case.rng.uniform(0, 1.05) * case.baseline.clean(case.stage).finished.seconds

        def execute(start: Callable[[], Child]) -> list[Finished]:
            return [start().finish(number, after)]

        return Injected(execute=execute, repeat=True)

    return inject


def _kill_and_flip(case: Case) -> Injected:
    """Kill the command, then flip a bit of what it left."""
    before = set(find(case.here, ("**/*",)))
    after = case.rng.uniform(0, 1.05) * case.baseline.clean(case.stage).finished.seconds
    Child(case.stage.arguments, case.here).finish(signal.SIGKILL, after)
    left = [path for path in find(case.here, ("**/*",)) if path.is_file() and path not in before]
    if left:
        path = case.rng.choice(left)
        case.target = str(path.relative_to(case.here))
        flip(case, path)
    return Injected(names=("",))


def _limit_files(case: Case) -> Injected:
    """Let no file grow beyond a random size, below that of the largest output."""
    clean = case.baseline.clean(case.stage).folder
    sizes = [path.stat().st_size for path in find(clean, case.stage.outputs) if path.is_file()]
    return Injected(limits=Limits(file_size=case.rng.randrange(max(sizes, default=1))), repeat=True)


def _mount(here: Path, size: int, flags: int = 0) -> bool:
    """Mount a file system in memory of so many bytes, or change its size; return whether that is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    return not libc.mount(b"none", os.fsencode(here), b"tmpfs", flags, f"size={size}".encode())


def _unmount(here: Path) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(here), _DETACH)


def _own_disk(here: Path) -> Callable[[], None] | None:
    return partial(_unmount, here) if _mount(here, _ROOM) else None


def _fill(case: Case) -> Injected:
    """Leave room for a random part of the outputs."""
    clean = case.baseline.clean(case.stage).folder
    outputs = sum(-(-path.stat().st_size // _PAGE) for path in find(clean, case.stage.outputs) if path.is_file())
    disk = os.statvfs(case.here)
    used = disk.f_blocks - disk.f_bfree
    _mount(case.here, (used + case.rng.randrange(1, outputs + 2)) * disk.f_frsize, _REMOUNT)

    def make_room() -> None:
        _mount(case.here, _ROOM, _REMOUNT)

    return Injected(remedy=make_room, repeat=True)


def _read_only(case: Case) -> Injected:
    """Take away the right to write, from the folder that the command works on or from everything."""
    top = case.here if case.target == "all" else case.folder
    paths = [top, *find(top, ("**/*",))]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def restore() -> None:
        for path in paths:
            if path.exists():
                path.chmod(0o755 if path.is_dir() else 0o644)

    return Injected(limits=Limits(permissions=True), remedy=restore, repeat=True)


def _read_only_targets(stage: Stage, baseline: Baseline) -> Sequence[str]:
    return ("all",) if stage.name in ("import", "trace", "train") else ("all", "the run")


def _twice(case: Case) -> Injected:
    """Run the same command twice, the second one a random moment later."""
    seconds = case.baseline.clean(case.stage).finished.seconds
    wait = case.rng.uniform(0, 0.8) * seconds

    def execute(start: Callable[[], Child]) -> list[Finished]:
        first = start()
        time.sleep(wait)
        second = start()
        return [first.finish(), second.finish()]

    return Injected(execute=execute, repeat=True)


register(Fault("kill -9", _end(signal.SIGKILL), fresh=True))
register(Fault("SIGINT", _end(signal.SIGINT), fresh=True))
register(Fault("SIGTERM", _end(signal.SIGTERM), fresh=True))
register(Fault("kill -9, then a bit flipped", _kill_and_flip, fresh=True))
register(Fault("disk full", _fill, fresh=True, prepare=_own_disk))
register(Fault("file size limit", _limit_files, fresh=True))
register(Fault("read-only", _read_only, _read_only_targets, often="fixed"))
register(Fault("two at once", _twice, fresh=True))
