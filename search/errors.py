"""The ways in which a command ends early, each with its exit code, and other errors in one line."""

from __future__ import annotations

from typing import ClassVar, Final

DONE: Final = 0
FAILED: Final = 1
WRONG_INPUT: Final = 2
INTERRUPTED: Final = 130


class RobustfrontError(Exception):
    """Ends a command: its message is the one line that the user sees, its ``exit_code`` that of the process."""

    exit_code: ClassVar[int] = FAILED


class UserError(RobustfrontError):
    """The user's input is wrong. The line names the setting, the value and the remedy."""

    exit_code = WRONG_INPUT


class SweepFailed(RobustfrontError):
    """The work itself failed, and its state is kept. The line says why and how to resume."""


class Halted(RobustfrontError):
    """No trial can continue, for a reason outside all of them, such as a full disk."""


class Interrupted(RobustfrontError):
    """Ctrl-C or SIGTERM; the state is kept. The line, if any, says how to resume."""

    exit_code = INTERRUPTED


def first_line(error: BaseException) -> str:
    """The first line of an error's message; pyarrow's messages continue with the whole HTTP exchange."""
    return _lines(error)[0].rstrip(".")


def cause_on_worker(error: BaseException) -> str:
    """What failed on a worker, in one line: the last line of Ray's error, below the worker's traceback."""
    return _lines(getattr(error, "cause", None) or error)[-1]


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
