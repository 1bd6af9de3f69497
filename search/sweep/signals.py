"""Ctrl-C and SIGTERM during a sweep."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from search.errors import Interrupted


class Signals:
    """Raises ``Interrupted`` on Ctrl-C and SIGTERM: at once, or at the next ``check`` while polled.

    An exception at an arbitrary point of Tune's loop or an audit could interrupt a write to the ledger. A second signal
    raises at once.
    """

    def __init__(self) -> None:
        self._polled = self._pending = False

    def handle(self, *_: object) -> None:
        if not self._polled or self._pending:
            raise Interrupted
        self._pending = True

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal has arrived."""
        if self._pending:
            raise Interrupted

    @contextmanager
    def polled(self) -> Iterator[None]:
        """Defers the first signal to the next ``check``."""
        self._polled = True
        try:
            yield
        except SystemError as error:  # Ray's compiled code wraps an exception raised while it waits
            if isinstance(error.__cause__, Interrupted):
                raise error.__cause__ from None
            raise
        finally:
            self._polled = False


@contextmanager
def handled_signals() -> Iterator[Signals]:
    """Installs the handlers; enter it after Ray has started, which installs its own."""
    handled = Signals()
    before = {number: signal.signal(number, handled.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
