"""Looks and corrections as OpenTelemetry spans, sent by OTLP over HTTP where the environment names a receiver.

A round is one trace: its look, and below it the corrections that followed. Nothing is imported unless it is used; headers,
certificates, sampling and all else are the library's own variables of the environment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from reconciler.model.harmless import harmless
from reconciler.model.watching import Corrected, Looked, WatchEvent
from reconciler.operations.documents import text_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Span

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
_LOGGER = "opentelemetry"


def traces_of(
    environ: Mapping[str, str], *, stack: str, version: str, told: Callable[[str], None]
) -> Traces | None:
    """None, and nothing imported, unless the environment names a receiver. What it names and cannot be had goes to `told`."""
    if not any(environ.get(name, "").strip() for name in _ENDPOINTS):
        return None
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return None
    protocol = next((environ[name].strip() for name in _PROTOCOLS if environ.get(name, "").strip()), _SPOKEN)
    if protocol != _SPOKEN:
        told(f"no traces are sent: {harmless(protocol)[:40]} is asked for, and {_SPOKEN} is what there is")
        return None
    try:
        return Traces(environ, stack=stack, version=version, told=told)
    except ImportError:
        told("no traces are sent: pip install 'sandbox-reconciler[otel]'")
    except ValueError as error:
        told(harmless(f"no traces are sent: {error}")[:200])
    return None


class Traces:
    """Raises ImportError when the library is not installed. `told` gets what the library logs, from any thread."""

    def __init__(
        self, environ: Mapping[str, str], *, stack: str, version: str, told: Callable[[str], None]
    ) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._log = _Log(told)
        logging.getLogger(_LOGGER).addHandler(self._log)
        resource = _resource(environ, stack=stack, version=version)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("reconciler", version)
        self._round: Context | None = None

    def __call__(self, event: WatchEvent) -> None:
        if isinstance(event, Looked):
            self._looked(event)
        elif isinstance(event, Corrected):
            self._corrected(event)

    def close(self, timeout: float = 5.0) -> None:
        """Send what waits, for at most so many seconds. Afterwards nothing is recorded any more."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()  # the library has no deadline for this
        ending.join(timeout)
        logging.getLogger(_LOGGER).removeHandler(self._log)

    def _looked(self, look: Looked) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        missing = sorted(map(text_of, look.failures))
        span = self._span(
            "look",
            Context(),
            look.at - look.seconds,
            {
                "reconciler.trigger": look.trigger,
                "reconciler.desired": look.desired,
                "reconciler.observed": look.observed,
                "reconciler.ready": look.ready,
                "reconciler.drifted": look.drifted,
                "reconciler.waiting": look.waiting,
                "reconciler.pending": look.pending,
                "reconciler.backends_missing": missing,
            },
        )
        self._round = set_span_in_context(span, Context())
        _end(span, look.at, f"could not be seen: {', '.join(missing)}" if missing else "")

    def _corrected(self, correction: Corrected) -> None:
        span = self._span(
            "correct",
            self._round,
            correction.at - correction.took,
            {
                "reconciler.address": text_of(correction.address),
                "reconciler.backend": text_of(correction.backend),
                "reconciler.sandbox_id": text_of(correction.sandbox_id),
                "reconciler.action": str(correction.action),
                "reconciler.reason": text_of(correction.reason),
                "reconciler.cause": str(correction.cause),
                "reconciler.attempt": correction.attempt,
                "reconciler.drifted_for": correction.seconds,
            },
        )
        _end(span, correction.at, text_of(correction.error))

    def _span(
        self,
        name: str,
        parent: Context | None,
        start: float,
        attributes: Mapping[str, str | int | float | list[str]],
    ) -> Span:
        return self._tracer.start_span(name, context=parent, start_time=_ns(start), attributes=attributes)


class _Log(logging.Handler):
    """What the library would print on its own, as our lines."""

    def __init__(self, told: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._told(harmless(f"traces: {record.getMessage()}")[:300])
        except Exception:  # noqa: BLE001 - as every handler: a log line is no reason to fail
            self.handleError(record)


def _resource(environ: Mapping[str, str], *, stack: str, version: str) -> Resource:
    """What the environment names comes before what we would call ourselves."""
    from opentelemetry.sdk.resources import Resource

    named = {"service.version": version, "reconciler.stack": stack}
    if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        named["service.name"] = "reconciler"
    return Resource.create(named)


def _end(span: Span, at: float, error: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    if error:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(_ns(at))


def _ns(at: float) -> int:
    return max(0, int(at * 1_000_000_000))
