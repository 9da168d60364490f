"""Looks and corrections as OpenTelemetry spans, sent by OTLP over HTTP where the environment names a receiver."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.model.watching import WatchEvent


class Traces:
    def __call__(self, event: WatchEvent) -> None: ...

    def close(self, timeout: float = 5.0) -> None:
        """Send what waits, for at most so many seconds."""


def traces_of(
    environ: Mapping[str, str], *, stack: str, version: str, told: Callable[[str], None]
) -> Traces | None:
    """None, and nothing imported, unless the environment names a receiver and the extra is installed."""
    raise NotImplementedError
