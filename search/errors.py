"""The ways in which a command ends early, each with its exit code, and what other errors say in one line."""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong: one line that names the setting, the value and the remedy. Exit code 2."""


class SweepFailed(Exception):
    """The work itself failed, and its state is kept: one line that says why and how to go on. Exit code 1."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the state is kept. Exit code 130."""


class Halted(Exception):
    """No trial can go on, for a reason that lies outside of them all (a full disk). Becomes a ``SweepFailed``."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line: those of pyarrow go on with the whole HTTP exchange."""
    return _lines(error)[0].rstrip(".")


def cause_on_worker(error: BaseException) -> str:
    """What failed on a worker, in one line, by Ray's error of it, which ends with that after the worker's traceback."""
    return _lines(getattr(error, "cause", None) or error)[-1]


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
