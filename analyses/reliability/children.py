"""Commands in forked children of a process that has loaded everything, as `python -m specialize` runs them.

A child is a process group of its own. It begins within a millisecond, and an interrupt waits for that: signals hit the
command and not the interpreter's start.
"""

import contextlib
import ctypes
import io
import os
import resource
import runpy
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

UNCAUGHT = 70  # exit status of an exception that a user would see as a traceback
LONGEST = 180.0  # seconds; a command that takes longer hangs
ENVIRONMENT = {  # of the process that forks; set before NumPy, Numba and torch are loaded
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMBA_THREADING_LAYER": "workqueue",  # GNU OpenMP ends a process that forks
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "agg",
    "COLUMNS": "160",
    "GIT_DIR": os.devnull,  # manifests do not hold the commit, which may change while the study runs
}
_NO_OVERRIDE = (1, 2, 3)  # capabilities of root to which permissions of files do not apply


@dataclass(frozen=True)
class Limits:
    """What a child may not do.

    Attributes:
        file_size: bytes that a file may have; writing more fails.
        permissions: whether permissions of files hold for root, too.
    """

    file_size: int | None = None
    permissions: bool = False

    def apply(self) -> None:
        """Limit this process."""
        if self.file_size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size, self.file_size))
        if self.permissions and os.geteuid() == 0:
            _drop_override()


@dataclass(frozen=True)
class Finished:
    """A command that ended.

    Attributes:
        code: exit status; negative: the signal that ended it.
        out: what it printed to stdout.
        err: what it printed to stderr.
        seconds: wall time.
        hung: whether it was killed for taking too long.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False


class Child:
    """A command that runs.

    Args:
        arguments: of `specialize`.
        here: the folder it runs in.
        limits: what it may not do.
    """

    def __init__(self, arguments: Sequence[str], here: Path, limits: Limits | None = None) -> None:
        out, err = os.pipe(), os.pipe()
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _become(arguments, here, limits or Limits(), out[1], err[1])
        os.close(out[1])
        os.close(err[1])
        self._pipes = (out[0], err[0])

    def finish(self, number: int = 0, after: float = 0.0, *, longest: float = LONGEST) -> Finished:
        """Wait for the end.

        Args:
            number: a signal to send; 0: none.
            after: seconds from the start to that signal.
            longest: seconds after which the child is killed.
        """
        printed: dict[int, bytearray] = {pipe: bytearray() for pipe in self._pipes}
        hung = False
        watched = selectors.DefaultSelector()
        exits = os.pidfd_open(self.pid)
        for place in (*self._pipes, exits):
            watched.register(place, selectors.EVENT_READ)
        while True:
            past = time.monotonic() - self.began
            if number and past >= after:
                self._send(number)
                number = 0
            if past >= longest and not hung:
                hung = True
                self._send(signal.SIGKILL)
            ready = {key.fd for key, _ in watched.select(max(0.0, (after if number else longest) - past) + 0.001)}
            for pipe in ready & set(self._pipes):
                read = os.read(pipe, 1 << 16)
                printed[pipe] += read
                if not read:
                    watched.unregister(pipe)
            if exits in ready and not ready & set(self._pipes):
                break
        _, status = os.waitpid(self.pid, 0)
        self._send(signal.SIGKILL)  # processes that it left behind
        watched.close()
        for place in (*self._pipes, exits):
            os.close(place)
        out, err = (printed[pipe].decode(errors="replace") for pipe in self._pipes)
        return Finished(os.waitstatus_to_exitcode(status), out, err, time.monotonic() - self.began, hung)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def run(arguments: Sequence[str], here: Path, limits: Limits | None = None) -> Finished:
    """Run a command in a folder."""
    return Child(arguments, here, limits).finish()


def run_here(arguments: Sequence[str], here: Path) -> None:
    """Run a command in this process, which loads and compiles what children need.

    Raises:
        RuntimeError: it fails.
    """
    before, err = Path.cwd(), io.StringIO()
    os.chdir(here)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err), _argv(arguments):
            runpy.run_module("specialize", run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{' '.join(arguments)}: {err.getvalue()}") from None
    finally:
        os.chdir(before)


def _become(arguments: Sequence[str], here: Path, limits: Limits, out: int, err: int) -> None:
    """Be the command; never returns."""
    code = UNCAUGHT
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, _interrupt)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(here)
        limits.apply()
        with _argv(arguments):
            try:
                runpy.run_module("specialize", run_name="__main__")
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        sys.stdout.flush()
    except BaseException:
        code = UNCAUGHT
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt the command once it runs; no program can catch an interrupt while Python itself starts or ends."""
    while frame is not None:
        if frame.f_code.co_filename.endswith("specialize/cli/__init__.py") and frame.f_code.co_name == "_run":
            raise KeyboardInterrupt
        frame = frame.f_back
    signal.setitimer(signal.ITIMER_REAL, 0.001)


@contextlib.contextmanager
def _argv(arguments: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["specialize", *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _drop_override() -> None:
    """Give up the capabilities with which root passes over permissions."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(header, held):
        raise OSError(ctypes.get_errno(), "capget")
    for place in (0, 1, 2):
        for bit in _NO_OVERRIDE:
            held[place] &= ~(1 << bit)
    if libc.capset(header, held):
        raise OSError(ctypes.get_errno(), "capset")
