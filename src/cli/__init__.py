"""The commands behind `greenroom`, one module each.

Exit codes tell a script what went wrong without reading the message:

=== =====================================================================
0   done; for ``run`` also: stopped by SIGTERM or Ctrl-C, in order
1   the program itself failed
2   the command line or a ``GREENROOM_*`` variable is wrong
3   there is no such file, module or name
4   the application could not be imported
5   what was imported is no app
6   the address is in use
7   permission denied: the address, or a file
8   the host cannot be listened on from this machine
9   ``doctor`` found something that keeps Greenroom from working
143 ``run``: a second SIGTERM stopped it at once (130: a second Ctrl-C)
=== =====================================================================
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["CommandError", "main"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
IMPORT_FAILED: Final = 4
NOT_AN_APP: Final = 5
IN_USE: Final = 6
PERMISSION: Final = 7
BAD_HOST: Final = 8
UNHEALTHY: Final = 9


class CommandError(Exception):
    """A command cannot go on. Its text is for people; ``code`` is the exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


PATH_HELP: Final = """\
PATH is one of
  main.py               a file: its public functions become handlers
  my_app/               a folder with a main.py
  package.module:name   an App, or a function that returns one
"""

EXIT_HELP: Final = """\
exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 import failed, 5 not an app,
            6 address in use, 7 permission denied, 8 unusable host, 9 unhealthy (doctor)
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from . import doctor, run

    top = argparse.ArgumentParser(
        prog="greenroom",
        description="Live server-side sessions in Python.",
        epilog="Start with:  greenroom run main.py --debug\n\n" + EXIT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (run, doctor):
        summary, text = module.HELP
        command = commands.add_parser(
            module.NAME,
            help=summary,
            description=text,
            epilog=PATH_HELP + "\n" + EXIT_HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(command=module.command)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    args = parser().parse_args(argv)
    try:
        code = int(args.command(args))
        sys.stdout.flush()
    except CommandError as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `greenroom doctor | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"greenroom {version('greenroom')}"
    except PackageNotFoundError:
        return "greenroom (not installed)"
