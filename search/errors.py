"""The ways in which a command ends early, each with its exit code."""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong: one line that names the setting, the value and the remedy. Exit code 2."""


class SweepFailed(Exception):
    """The work itself failed, and its state is kept: one line that says why and how to go on. Exit code 1."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the state is kept. Exit code 130."""


class Halted(Exception):
    """No trial can go on, for a reason that lies outside of them all (a full disk). Becomes a ``SweepFailed``."""
