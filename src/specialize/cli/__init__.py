"""The command line."""

import sys

from specialize.errors import SpecializeError

__all__ = ["main"]


def main() -> None:
    """Run the command line; a user's mistake ends with one clear line and exit code 2."""
    import specialize.cli.commands
    import specialize.cli.compare
    import specialize.cli.exchange
    import specialize.cli.figures
    import specialize.cli.probe
    import specialize.cli.train
    import specialize.cli.vocabulary  # noqa: F401 (all add their commands to the application)
    from specialize.cli.app import app
    from specialize.cli.console import say

    try:
        app()
    except SpecializeError as error:
        say(f"specialize: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("specialize: interrupted; what was finished is kept")
        sys.exit(130)
