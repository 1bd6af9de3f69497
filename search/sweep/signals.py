"""Ctrl-C and SIGTERM during a sweep."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from search.errors import Interrupted


class Signals:
    """Ctrl-C and SIGTERM as ``Interrupted``: at once, or while polled at the next ``check``.

    Within Tune's loop and the audit's an exception out of nowhere could cut a write to the ledger in two. A second
    signal does not wait.
    """

    def __init__(self) -> None:
        self._polled = self._pending = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self._polled or self._pending:
            raise Interrupted
        self._pending = True

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal has come."""
        if self._pending:
            raise Interrupted

    @contextmanager
    def polled(self) -> Iterator[None]:
        """Puts a first signal off until the next ``check``."""
        self._polled = True
        try:
            yield
        except SystemError as error:  # what Ray's compiled parts make of an exception that comes while they wait
            if isinstance(error.__cause__, Interrupted):
                raise error.__cause__ from None
            raise
        finally:
            self._polled = False


@contextmanager
def handled_signals() -> Iterator[Signals]:
    """Takes over the signals; to be entered after Ray's start, which sets handlers of its own."""
    handled = Signals()
    before = {number: signal.signal(number, handled.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
