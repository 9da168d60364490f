"""Tells incidents to webhooks: each once when it opens and once when it is over, in order, by a thread per webhook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.desired import Secret
from reconciler.model.watching import WatchEvent


class Format(StrEnum):
    """JSON: `schemas/notification.v1.schema.json`. SLACK: Slack's incoming webhooks, and Mattermost's."""

    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """`url` often holds a token, so all of it is a secret but the host. Raises ReconcilerError for what is no http URL."""

    url: Secret
    format: Format = Format.JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: one try takes `timeout` at most, the first wait is `first`, doubled up to `longest`, which also bounds what a
    receiver may ask for; a notification older than `keep` is not tried again. At most `room` wait per webhook."""

    timeout: float = 10.0
    first: float = 1.0
    longest: float = 60.0
    keep: float = 3600.0
    room: int = 1000


class Notifier:
    """`told` gets lines for the log, `counted` each end: "delivered", "refused" (the receiver will never take it), "expired"
    (tried for too long), "dropped" (no room, or closed meanwhile). Both are called by any thread."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        *,
        stack: str,
        version: str,
        told: Callable[[str], None],
        counted: Callable[[str], None] = lambda outcome: None,
        pace: Pace | None = None,
    ) -> None: ...

    def __call__(self, event: WatchEvent) -> None: ...

    def close(self, timeout: float = 10.0) -> None:
        """Send what waits, for at most so many seconds; the rest is dropped, and told."""
