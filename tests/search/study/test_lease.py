"""The lease: one driver at a time, the dead ones replaced at once on this host and after a while elsewhere."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, update

from search.errors import SweepFailed, UserError
from search.study import Lease, holder
from search.study import lease as lease_module
from search.study.lease import _TABLE


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return create_engine(f"sqlite:///{tmp_path / 'lease.db'}", connect_args={"timeout": 30})


def test_a_second_driver_is_refused_until_the_first_releases(engine: Engine) -> None:
    first = Lease(engine, "run")
    with pytest.raises(UserError, match=r"one driver at a time.*robustfront status run"):
        Lease(engine, "run")
    Lease(engine, "another run").release()
    first.release()
    assert holder(engine, "run") is None
    second = Lease(engine, "run")
    assert second.epoch == first.epoch + 1
    second.release()


def test_a_dead_driver_of_this_host_is_replaced_at_once(engine: Engine, tmp_path: Path) -> None:
    code = (
        "from sqlalchemy import create_engine; from search.study import Lease; import os; "
        f"Lease(create_engine('sqlite:///{tmp_path / 'lease.db'}'), 'run'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    left = holder(engine, "run")
    assert left is not None
    assert not left.alive
    assert left.expires > time.time()
    Lease(engine, "run").release()


def elsewhere(engine: Engine, expires: float) -> None:
    with engine.begin() as connection:
        connection.execute(update(_TABLE).values(host="another-host", expires=expires))


def test_a_driver_of_another_host_that_is_gone_is_replaced_when_its_lease_expires(engine: Engine) -> None:
    first = Lease(engine, "run")
    first._stop.set()
    for expires, expected in ((time.time() + 2, ["another-host"]), (time.time() - 1, [])):
        elsewhere(engine, expires)
        hosts: list[str] = []
        second = Lease(engine, "run", lambda holder, hosts=hosts: hosts.append(holder.host))  # type: ignore[misc]
        assert time.time() > expires
        assert hosts == expected
        assert second.epoch > first.epoch
        second._stop.set()


def test_a_driver_of_another_host_is_waited_for_until_it_renews_its_lease(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 2.0)
    first = Lease(engine, "run")
    expires = time.time() + 30
    elsewhere(engine, expires)
    with pytest.raises(UserError, match="another-host is at work"):
        Lease(engine, "run")
    assert time.time() < expires
    first.release()


def test_the_wait_for_a_driver_of_another_host_can_be_interrupted(engine: Engine) -> None:
    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    Lease(engine, "run")._stop.set()
    elsewhere(engine, time.time() + 30)
    with pytest.raises(Enough):
        Lease(engine, "run", turn=enough)


def test_a_lease_is_renewed_and_notices_when_it_is_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.05)
    lease = Lease(engine, "run")
    before = holder(engine, "run")
    time.sleep(0.3)
    after = holder(engine, "run")
    assert before is not None
    assert after is not None
    assert after.expires > before.expires
    with engine.begin() as connection:
        connection.execute(update(_TABLE).values(owner="thief", epoch=7))
    assert lease.lost.wait(10)
    with pytest.raises(SweepFailed, match="taken over by another driver"):
        lease.check()
    lease.release()
    thief = holder(engine, "run")
    assert thief is not None  # what is not ours is not released
    assert thief.owner == "thief"


def test_of_many_that_start_together_exactly_one_wins(engine: Engine) -> None:
    won: list[Lease] = []
    refused: list[UserError] = []
    barrier = threading.Barrier(8)

    def take() -> None:
        barrier.wait()
        try:
            won.append(Lease(engine, "run"))
        except UserError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)
    won[0].release()


def test_a_lost_lease_is_known_before_the_next_write(engine: Engine) -> None:
    lease = Lease(engine, "study")
    lease.still_held()
    with engine.begin() as connection:
        connection.execute(update(_TABLE).values(owner="thief", epoch=7))
    with pytest.raises(SweepFailed, match="taken over"):
        lease.still_held()
    lease.release()
