"""Tells incidents to webhooks: each once when it opens and once when it is over, in order, by a thread per webhook.

What cannot be delivered is tried again for a while, and what comes after it waits: a receiver that was away hears all of it in
order. Nothing here keeps the loop waiting.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct

from reconciler.model.watching import IncidentClosed, IncidentOpened, WatchEvent
from reconciler.operations.webhook import Format as Format
from reconciler.operations.webhook import Notification, Reply, notification_id, send
from reconciler.operations.webhook import Webhook as Webhook


class Outcome(StrEnum):
    """DELIVERED; REFUSED: the receiver will never take it; EXPIRED: tried for too long; DROPPED: there was no room, or it was
    closed meanwhile."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DROPPED = "dropped"


class Pace(Struct, frozen=True, kw_only=True):
    """Seconds: one try takes `timeout` at most, the first wait is `first`, doubled up to `longest`, which also bounds what a
    receiver may ask for; a notification older than `keep` is not tried again. At most `room` wait per webhook. Each wait is
    shortened by up to a half, by `chance`, so that many runs do not come back at once."""

    timeout: float = 10.0
    first: float = 1.0
    longest: float = 60.0
    keep: float = 3600.0
    room: int = 1000
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random

    def pause(self, tries: int, asked: float | None = None) -> float:
        """Seconds until the next try, after so many in vain. `asked` is what the receiver asks for, and no reason to come
        sooner."""
        doubled = min(self.first * 2.0 ** min(tries - 1, 60), self.longest)
        pause = doubled * (1 - self.chance() / 2)
        return pause if asked is None else min(max(asked, pause), self.longest)


class _Sender(Struct, frozen=True, kw_only=True):
    """What all couriers have in common."""

    stack: str
    version: str
    told: Callable[[str], None]
    counted: Callable[[str], None]
    pace: Pace


class Notifier:
    """`told` gets lines for the log, `counted` each `Outcome`; any thread calls them."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        *,
        stack: str,
        version: str,
        told: Callable[[str], None],
        counted: Callable[[str], None] = lambda _: None,
        pace: Pace | None = None,
    ) -> None:
        self._stack = stack
        self._pace = pace or Pace()
        sender = _Sender(stack=stack, version=version, told=told, counted=counted, pace=self._pace)
        self._couriers = [_Courier(webhook, sender) for webhook in webhooks]

    def __call__(self, event: WatchEvent) -> None:
        if not isinstance(event, IncidentOpened | IncidentClosed):
            return
        made = Notification(id=notification_id(self._stack, event), event=event, put=self._pace.monotonic())
        for courier in self._couriers:
            courier.put(made)

    def close(self, timeout: float = 10.0) -> None:
        """Send what waits, for at most so many seconds; the rest is dropped, and told."""
        until = self._pace.monotonic() + timeout
        for courier in self._couriers:
            courier.end(until)
        for courier in self._couriers:
            courier.join(until)


class _Courier:
    """Delivers to one webhook, one notification after the other."""

    def __init__(self, webhook: Webhook, sender: _Sender) -> None:
        self._webhook = webhook
        self._sender = sender
        self._pace = sender.pace
        self._changed = threading.Condition()
        self._waiting: deque[Notification] = deque()
        self._until: float | None = None  # when everything ends, once that is known
        self._away = False  # so that an outage is told once
        self._thread = threading.Thread(target=self._run, name=f"webhook {webhook.host}", daemon=True)
        self._thread.start()

    def put(self, notification: Notification) -> None:
        with self._changed:
            if self._until is not None:
                trouble = "the watch ends"
            elif len(self._waiting) >= self._pace.room:
                trouble = f"{self._pace.room} are waiting already"
            else:
                trouble = ""
                self._waiting.append(notification)
                self._changed.notify()
        if trouble:
            self._count(Outcome.DROPPED, f"dropped: {trouble}")

    def end(self, until: float) -> None:
        with self._changed:
            self._until = until
            self._changed.notify()

    def join(self, until: float) -> None:
        """A request that is under way may outlast this; nothing follows it."""
        self._thread.join(max(0.0, until - self._pace.monotonic()) + 0.1)

    def _run(self) -> None:
        while (notification := self._next()) is not None:
            try:
                self._deliver(notification)
            except Exception as error:  # noqa: BLE001 - the next one may be well; without a thread nothing is
                self._count(Outcome.REFUSED, f"lost: {type(error).__name__}; this is a bug")

    def _next(self) -> Notification | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._until is not None)
            return self._waiting.popleft() if self._waiting else None

    def _deliver(self, notification: Notification) -> None:
        """Until it is taken, refused for good, too old, or everything ends."""
        tries = 0
        while (timeout := self._time_for_a_try()) > 0:
            reply = self._try(notification, timeout)
            if reply.ok:
                self._back()
                return
            if not reply.passing:
                self._count(Outcome.REFUSED, f"refused: {reply.said}")
                return
            tries += 1
            pause = self._pace.pause(tries, reply.retry_after)
            if self._pace.monotonic() + pause > notification.put + self._pace.keep:
                self._count(Outcome.EXPIRED, f"given up: {reply.said}")
                return
            self._tell_away(reply)
            self._sleep(pause)
        self._count(Outcome.DROPPED, "dropped: the watch ends")

    def _try(self, notification: Notification, timeout: float) -> Reply:
        return send(
            self._webhook,
            notification,
            stack=self._sender.stack,
            version=self._sender.version,
            timeout=timeout,
            now=self._pace.now(),
        )

    def _time_for_a_try(self) -> float:
        until = self._until
        if until is None:
            return self._pace.timeout
        return min(self._pace.timeout, until - self._pace.monotonic())

    def _sleep(self, seconds: float) -> None:
        """The end of everything cuts the wait short once: what was refused a minute ago may be taken now."""
        ending = self._until is not None
        if ending:
            seconds = min(seconds, self._pace.first)
        with self._changed:
            self._changed.wait_for(lambda: self._until is not None and not ending, timeout=seconds)

    # -- what is told

    def _back(self) -> None:
        if self._away:
            self._away = False
            self._sender.told(f"webhook {self._webhook.host}: it takes notifications again")
        self._sender.counted(Outcome.DELIVERED)

    def _tell_away(self, reply: Reply) -> None:
        if not self._away:
            self._away = True
            self._sender.told(f"webhook {self._webhook.host}: {reply.said}; it is tried again")

    def _count(self, outcome: Outcome, said: str) -> None:
        self._sender.counted(outcome)
        self._sender.told(f"webhook {self._webhook.host}: a notification was {said}")
