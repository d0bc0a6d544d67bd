"""What tests of several rooms share."""

import os
import signal
import sys

import pytest

from specialize.cli import main

WORKER = "PYTEST_XDIST_WORKER" in os.environ  # one of several processes that share the tests
if WORKER:
    # they share the processors, too: one thread for each of them and for what it starts, set before a library reads it
    # (numba's own number must not change once its threads run, and analyses that are imported set it to one)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    os.environ |= dict.fromkeys(names, "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores interrupts, and so would every process that a test starts and interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the workers the files with slow tests first, so that all of them end at about the same time."""
    if WORKER:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: compressed ones hold the time, and all workers need the same names of tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="module")
def one_thread():
    """Run tiny models on one thread: two that wait for each other are many times slower on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command line in this process; return exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["specialize", *map(str, arguments)])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return int(code or 0), printed.out, printed.err

    return run
