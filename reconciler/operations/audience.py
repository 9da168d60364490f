"""Everybody who hears what a watch tells. What one of them does wrong never reaches the loop, nor the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.model.watching import WatchEvent


class Audience:
    """Tells each of `listeners` in turn, with `scrub` (secrets out) over every text. A listener that raises is told of by
    `told`, once per kind of failure."""

    def __init__(
        self,
        listeners: Sequence[Callable[[WatchEvent], None]],
        *,
        told: Callable[[str], None],
        scrub: Callable[[str], str] = lambda text: text,
    ) -> None: ...

    def __call__(self, event: WatchEvent) -> None: ...
