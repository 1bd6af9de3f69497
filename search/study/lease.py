"""One driver at a time owns a study: a lease in the study's own database.

Each study has one row, changed only by conditional updates, so that exactly one of two drivers that start together
wins. Every new owner raises the epoch. What a worker of an earlier owner still writes carries an older epoch and can be
recognised.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psutil
from sqlalchemy import Column, Engine, Float, Integer, MetaData, String, Table, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from search.errors import SweepFailed, UserError

LEASE_SECONDS: Final = 60.0
RENEW_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5

_TABLE = Table(
    "robustfront_lease",
    MetaData(),
    Column("study", String(512), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("owner", String(64)),
    Column("host", String(256)),
    Column("pid", Integer),
    Column("pid_started", Float),
    Column("expires", Float),
)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and until when (Unix time)."""

    epoch: int
    owner: str
    host: str
    pid: int
    pid_started: float
    expires: float

    @property
    def here(self) -> bool:
        """Whether the holder is a process of this host."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the holder may still write: on this host its process says so, elsewhere its expiry."""
        if not self.here:
            return time.time() < self.expires
        try:
            return psutil.Process(self.pid).create_time() == self.pid_started
        except psutil.Error:
            return False


class Lease:
    """The right to write to ``study``, renewed in the background until it is released.

    Whether a holder on another host is alive can only be seen from its lease. ``waiting`` is called once with such a
    holder. Then ``turn`` is called again and again until the lease is renewed, so that the holder is alive, or expires.

    Raises:
        UserError: A live driver holds it.
    """

    def __init__(
        self,
        engine: Engine,
        study: str,
        waiting: Callable[[Holder], None] = lambda _: None,
        turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine, self._study = engine, study
        self._owner = uuid.uuid4().hex
        self._mine = (_TABLE.c.study == study) & (_TABLE.c.owner == self._owner)
        self._stop = threading.Event()
        self.lost = threading.Event()
        with engine.begin() as connection:
            connection.execute(CreateTable(_TABLE, if_not_exists=True))
        self._wait(waiting, turn)
        self.epoch = self._acquire()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Asserts that the lease is still ours, as far as the background renewal knows.

        Raises:
            SweepFailed: Another driver has taken over, because this one was suspended or cut off for too long.
        """
        if self.lost.is_set():
            raise SweepFailed(
                f"run {self._study} was taken over by another driver while this one was cut off for more than "
                f"{LEASE_SECONDS:.0f} s; watch it with `robustfront status {self._study}`"
            )

    def still_held(self) -> None:
        """As ``check``, but asks the database. Called before every write to the study."""
        if not self.lost.is_set():
            with self._engine.connect() as connection:
                if connection.execute(select(_TABLE.c.epoch).where(self._mine)).one_or_none() is None:
                    self.lost.set()
        self.check()

    def release(self) -> None:
        """Gives the lease up, so that the next driver need not wait. Does nothing if it is already lost."""
        self._stop.set()
        self._thread.join()
        with suppress(SQLAlchemyError):  # without a database, it just expires
            self._update(self._mine, owner=None, expires=None)

    def _wait(self, waiting: Callable[[Holder], None], turn: Callable[[], None]) -> None:
        """Waits until a holder on another host renews its lease, gives it up or lets it expire."""
        first = now = holder(self._engine, self._study)
        if first is not None and first.alive and not first.here:
            waiting(first)
            while now == first and first.alive:
                turn()
                time.sleep(_LOOK_SECONDS)
                now = holder(self._engine, self._study)

    def _acquire(self) -> int:
        with suppress(IntegrityError), self._engine.begin() as connection:  # an earlier driver may have made the row
            connection.execute(insert(_TABLE).values(study=self._study, epoch=0))
        with self._engine.connect() as connection:
            epoch = connection.execute(select(_TABLE.c.epoch).where(_TABLE.c.study == self._study)).scalar_one()
        current = holder(self._engine, self._study)
        if current is not None and current.alive:
            raise UserError(
                f"run {self._study} must have one driver at a time, got a second: process {current.pid} on "
                f"{current.host} is at work; watch it with `robustfront status {self._study}` or stop it first"
            )
        process = psutil.Process()
        won = self._update(
            (_TABLE.c.study == self._study) & (_TABLE.c.epoch == epoch),
            epoch=epoch + 1,
            owner=self._owner,
            host=socket.gethostname(),
            pid=process.pid,
            pid_started=process.create_time(),
            expires=time.time() + LEASE_SECONDS,
        )
        if not won:
            raise UserError(
                f"run {self._study} must have one driver at a time, got another that has just started; "
                f"watch it with `robustfront status {self._study}`"
            )
        return int(epoch) + 1

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            with suppress(SQLAlchemyError):  # the database may be away for a moment: try again next time
                if not self._update(self._mine, expires=time.time() + LEASE_SECONDS):
                    self.lost.set()
                    return

    def _update(self, condition: Any, **values: Any) -> bool:
        """Changes the study's row if the condition holds, and says whether it does."""
        with self._engine.begin() as connection:
            return connection.execute(update(_TABLE).where(condition).values(**values)).rowcount == 1


def holder(engine: Engine, study: str) -> Holder | None:
    """Who holds the lease of ``study`` now, dead or alive; None if nobody does."""
    if not inspect(engine).has_table(_TABLE.name):
        return None
    with engine.connect() as connection:
        row = connection.execute(select(_TABLE).where(_TABLE.c.study == study)).one_or_none()
    if row is None or row.owner is None:
        return None
    return Holder(row.epoch, row.owner, row.host, row.pid, row.pid_started, row.expires)
