"""Subscriptions of a watch to the events of its backends."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.backends.base import Subscription
from reconciler.engine.context import Context
from reconciler.errors import ReconcilerError


class Listening:
    """To those that have events and can be listened to. `heard` is called whenever something happens, by any thread."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._subscriptions: dict[str, Subscription] = {}

    def __contains__(self, backend: str) -> bool:
        return backend in self._subscriptions

    def to(self, context: Context) -> None:
        """All that the configuration uses, and that are not listened to already."""
        for name in sorted({wanted.backend for wanted in context.desired.sandboxes.values()}):
            if name in self._subscriptions:
                continue
            try:
                backend = context.backends.get(name)
                if backend.capabilities.events:
                    self._subscriptions[name] = backend.listen(lambda _id: self._heard())
            except ReconcilerError:
                continue  # the next look tells what is wrong with it, and the one after that tries again

    def end(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()
