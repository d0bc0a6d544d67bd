"""The command line: every command parses its options, calls the pipeline, and prints."""

import _thread
import sys
import threading
from collections.abc import Callable

from specialize.addresses import is_address
from specialize.errors import SpecializeError

__all__ = ["main"]

_INTERRUPTED = 130
_AGAIN = "run the same command again to"
_KEPT = {  # by command: what an interrupted one leaves, and how to resume; the others leave nothing to resume from
    "trace": f"the shards that were finished are kept; {_AGAIN} resume",
    "train": f"the last checkpoint is kept; {_AGAIN} resume from it",
    "run": f"the shards, labels and results that were finished are kept; {_AGAIN} resume",
    "demo": f"the shards, labels and results that were finished are kept; {_AGAIN} resume",
    "syntax": f"tags and results that were finished are kept; {_AGAIN} measure all, without tagging again",
    "topics": f"topics and results that were finished are kept; {_AGAIN} measure all, without fitting again",
    "annotate": f"labels and results that were finished are kept; {_AGAIN} measure all",
    "probe": f"results that were finished are kept; {_AGAIN} measure all",
}

_STORED_AT_THE_END = ("syntax", "topics", "annotate", "probe")  # where the run is at an address
_NOTHING_STORED = "what the address holds was not changed"


def main() -> None:
    """Run the command line; a user's error prints one line to stderr and exits with status 2."""
    before = sys.unraisablehook
    sys.unraisablehook = _repeat_interrupts(before)
    try:
        status = _run()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    finally:
        sys.unraisablehook = before
    if status == _INTERRUPTED:
        command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
        at_address = command in _STORED_AT_THE_END and any(map(is_address, sys.argv))
        kept = _NOTHING_STORED if at_address else _KEPT.get(command)
        sys.stderr.write("specialize: interrupted" + (f"; {kept}\n" if kept else "\n"))
    sys.exit(status)


def _repeat_interrupts(hook: Callable[["sys.UnraisableHookArgs"], object]) -> Callable[..., object]:
    """Return a hook that repeats an interrupt that came while an object was finalized: Python prints and forgets it."""

    def handle(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            hook(unraisable)

    return handle


def _run() -> int:
    """Run a command and return its exit status; that of an interrupted one is 130."""
    from specialize.cli.app import UsageError, app, describe_usage_error, load_commands
    from specialize.cli.console import say

    load_commands()
    try:
        return app(prog_name="specialize", standalone_mode=False) or 0  # typer makes 130 of KeyboardInterrupt
    except UsageError as error:
        message = describe_usage_error(error)
    except SpecializeError as error:
        message = str(error)
    if message:
        say(f"specialize: {message}")
    return 2
