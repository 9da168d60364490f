"""What systemd is told, read from a real socket; nothing at all where nobody listens."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from reconciler.model.watching import Looked, Reloaded, WatchStarted, WatchStopped
from reconciler.operations.systemd import Systemd


@contextmanager
def listening(abstract: bool) -> Iterator[tuple[socket.socket, str]]:
    with (
        tempfile.TemporaryDirectory(prefix="rs") as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there,
    ):
        place = f"{name}/notify"
        there.bind(f"\0{place}" if abstract else place)
        there.settimeout(5)
        yield there, f"@{place}" if abstract else place


@pytest.mark.parametrize("abstract", [False, True])
def test_the_life_of_a_watch(abstract: bool) -> None:
    with listening(abstract) as (there, place):
        systemd = Systemd({"NOTIFY_SOCKET": place}, monotonic=lambda: 12.5)
        systemd(WatchStarted(at=1.0, stack="research", interval=30.0))
        systemd(Looked(at=1.0, seconds=0.1, desired=3, observed=3, ready=2, drifted=1, failures={"far": "x"}))
        systemd.reloading()
        systemd(Reloaded(at=1.0, summary="fine"))
        systemd.stopping()
        systemd(WatchStopped(at=1.0))
        systemd.close()
        heard = [there.recv(1000).decode() for _ in range(5)]
    assert heard[0] == "READY=1\nSTATUS=watching research, first look"
    assert heard[1] == "STATUS=2 of 3 ready, 1 drifted, not seen: far"
    assert heard[2] == "RELOADING=1\nMONOTONIC_USEC=12500000"
    assert heard[3].startswith("READY=1")
    assert heard[4].startswith("STOPPING=1")


def test_the_watchdog_is_fed_twice_as_often_as_it_asks_for() -> None:
    now = [100.0]
    with listening(abstract=False) as (there, place):
        environ = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "7"}
        systemd = Systemd(environ, pid=7, monotonic=lambda: now[0])
        there.settimeout(0.02)
        fed = []
        for _ in range(20):
            now[0] += 1.0
            systemd.tick()
            try:
                fed.append((now[0], there.recv(100)))
            except TimeoutError:
                continue
        systemd.close()
    assert all(text == b"WATCHDOG=1" for _, text in fed)
    assert 3 <= len(fed) <= 5


def test_the_end_of_a_reload_is_sent_as_soon_as_there_is_room_for_it() -> None:
    """systemd waits for it, and takes nothing else for it."""
    with listening(abstract=False) as (there, place):
        systemd = Systemd({"NOTIFY_SOCKET": place})
        there.setblocking(False)
        look = Looked(at=1.0, seconds=0.1, desired=3, observed=3, ready=3, drifted=0)
        for _ in range(2000):  # more than any system lets wait in one socket
            systemd(look)
        systemd(Reloaded(at=1.0, summary="fine"))
        systemd.tick()
        full = everything(there)
        systemd.tick()
        after = everything(there)
        systemd.tick()
        assert set(full) == {"STATUS=3 of 3 ready"}
        assert after == ["READY=1\nSTATUS=reloaded"]
        assert everything(there) == []
        systemd.close()


def everything(there: socket.socket) -> list[str]:
    heard: list[str] = []
    with suppress(BlockingIOError):
        while True:
            heard.append(there.recv(1000).decode())
    return heard


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"}],
)
def test_no_watchdog_is_fed_that_is_not_ours(environ: dict[str, str]) -> None:
    with listening(abstract=False) as (there, place):
        systemd = Systemd({**environ, "NOTIFY_SOCKET": place}, pid=7)
        systemd.tick()
        systemd.close()
        there.settimeout(0.02)
        with pytest.raises(TimeoutError):
            there.recv(100)


@pytest.mark.parametrize("place", ["", "relative", "/nowhere/at/all"])
def test_nobody_there_is_nobody_told(place: str) -> None:
    systemd = Systemd({"NOTIFY_SOCKET": place})
    systemd(WatchStarted(at=1.0, stack="research", interval=30.0))
    systemd.tick()
    systemd.close()
    systemd.close()
