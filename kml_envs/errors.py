"""The user's mistakes: one line that says what, where and what is accepted."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(ValueError):
    """A mistake of the user, told in one line: what was given, where, and what is accepted."""


def unknown_name(what: str, given: str, accepted: Iterable[str]) -> UserError:
    """Build the error for a name that is not among the accepted ones, with the nearest spelling.

    Args:
        what: What the name stands for, such as "workload".
        given: The name as the user wrote it.
        accepted: All names that would have been accepted.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(accepted)
    nearest = difflib.get_close_matches(str(given), names, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return UserError(f"unknown {what} '{given}': accepted are {', '.join(names)}.{hint}")


def in_one_line(error: BaseException) -> str:
    """What an exception of a library says, in one line of 200 characters at most."""
    return " ".join(str(error).split())[:200]


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong command line in one line, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong."""
        raise UserError(f"{message} (see --help)")


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command line's main function; a `UserError` becomes one line on standard error and exit status 2.

    Ctrl-C, where the command does not handle it, becomes one line and status 130, as shells count it.

    Args:
        main: The command; its return value is the exit status (None means 0).
    """
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(status or 0)
