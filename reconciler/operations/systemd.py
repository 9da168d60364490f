"""Tells systemd how the loop is, where systemd started it; nothing at all elsewhere.

The protocol is that of sd_notify(3): datagrams of `NAME=value` lines to the socket that the environment names. Nobody answers,
and what cannot be sent is not sent again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from reconciler.model.harmless import harmless
from reconciler.model.watching import (
    Corrected,
    IncidentClosed,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)


class Systemd:
    """`environ` as systemd gave it. `tick` is called whenever the loop moves, and feeds the watchdog. `monotonic` is
    CLOCK_MONOTONIC in seconds, which systemd compares a reload with."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        pid: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._place = _place(environ.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        if self._place:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)  # a systemd that is busy must not hold up the loop
        mine = os.getpid() if pid is None else pid
        self.watchdog = _watchdog(environ, mine) if self._place else 0.0
        self._fed = float("-inf")

    def __call__(self, event: WatchEvent) -> None:
        match event:
            case WatchStarted():
                self._send("READY=1", f"STATUS=watching {harmless(event.stack)}, first look")
            case Looked():
                self._send(f"STATUS={_status(event)}")
            case Reloaded():
                said = (
                    "reloaded" if event.ok else "the new configuration is not valid; the one before is kept"
                )
                self._send("READY=1", f"STATUS={said}")
            case LeadershipChanged():
                self._send("READY=1", f"STATUS={'leads' if event.leads else 'stands by'}")
            case WatchStopped():
                self._send("STOPPING=1", "STATUS=stopped")
            case Corrected() | IncidentOpened() | IncidentClosed():
                pass
        self.tick()

    def tick(self) -> None:
        """The loop moved. Tells the watchdog, twice as often as it asks for."""
        now = self._monotonic()
        if self.watchdog and now - self._fed >= self.watchdog / 2:
            self._fed = now
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload begins; `Reloaded` ends it. For a signal handler too."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._monotonic() * 1_000_000)}")

    def stopping(self) -> None:
        """A stop was asked for, and the loop ends what it is doing."""
        self._send("STOPPING=1", "STATUS=stopping")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(errors="replace"), self._place)


def _place(named: str) -> str:
    """As `sendto` takes it; "" for what is no socket of this machine."""
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else ""


def _watchdog(environ: Mapping[str, str], pid: int) -> float:
    """Seconds within which systemd wants to hear of us; 0 when it does not, or means another process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isascii() and text.isdecimal() else 0.0


def _status(look: Looked) -> str:
    said = [f"{look.ready} of {look.desired} ready"]
    said += [f"{look.drifted} drifted"] * bool(look.drifted)
    said += [f"{look.waiting} left alone for now"] * bool(look.waiting)
    said += [f"{look.pending} changes wait for an apply"] * bool(look.pending)
    if look.failures:
        said.append("not seen: " + ", ".join(sorted(map(harmless, look.failures))))
    return ", ".join(said)
