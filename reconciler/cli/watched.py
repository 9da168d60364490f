"""The configuration of a watch: opened as by any other command, and opened again when its files have changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli.options import Invocation
from reconciler.cli.wiring import opened
from reconciler.config.standing import Standing, standing

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.engine.perform import Scrubber
    from reconciler.model.event import Event

_AT_REST = 0.5  # seconds without a further change: a checkout writes one file after the other


class Files:
    """`emit` gets what happens while something is put back. Nobody is asked for a variable: whoever began the watch was, and
    may not sit there any more, while the loop would wait for him."""

    def __init__(self, call: Invocation, emit: Callable[[Event], None]) -> None:
        self._call = call
        self._emit = emit
        self._opened: Standing = ()
        self._seen: Standing = ()
        self._since = 0.0
        self._scrubber: Scrubber | None = None

    def scrub(self, text: str) -> str:
        """The text without the secrets of the configuration that is used, and of those before it."""
        return text if self._scrubber is None else self._scrubber(text)

    @contextmanager
    def open(self) -> Iterator[Context]:
        self._opened = self._seen = self._now()
        from reconciler.engine.perform import Scrubber

        with opened(self._call, emit=self._emit, writes=True, asks=False) as context:
            self._scrubber = Scrubber(context.desired, before=self._scrubber)
            yield context

    def changed(self) -> bool:
        """Also true once after what could not be opened has changed again, so that a mended file is tried."""
        now = self._now()
        if now == self._opened:
            return False
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
            return False
        return time.monotonic() - self._since >= _AT_REST

    def _now(self) -> Standing:
        settings = self._call.settings
        return standing(
            [Path(name) for name in settings.files],
            Path(settings.directory),
            [Path(settings.path(name)) for name in settings.var_files],
        )
