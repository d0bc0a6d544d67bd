"""The command line: every command parses its options, calls the pipeline, and prints."""

import sys

from specialize.errors import SpecializeError

__all__ = ["main"]


def main() -> None:
    """Run the command line; a user's error prints one line to stderr and exits with status 2."""
    from specialize.cli.app import UsageError, app, describe_usage_error, load_commands
    from specialize.cli.console import say

    load_commands()
    try:
        status = app(prog_name="specialize", standalone_mode=False)
    except UsageError as error:
        message = describe_usage_error(error)
        if message:
            say(f"specialize: {message}")
        sys.exit(2)
    except SpecializeError as error:
        say(f"specialize: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("specialize: interrupted; what was finished is kept")
        sys.exit(130)
    sys.exit(status or 0)
