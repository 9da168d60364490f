"""Events as Prometheus metrics, in a registry of their own. The library is imported when the first object is made.

Labels come from closed lists and from the configuration, never from what went wrong: their number stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError
from reconciler.model.drift import Cause
from reconciler.model.harmless import harmless
from reconciler.model.plan import Action
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    Trigger,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)
from reconciler.operations.audit import Entry
from reconciler.operations.notify import Outcome

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

_LOOKS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_CORRECTIONS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_PUTS_BACK = (Action.CREATE, Action.UPDATE, Action.REPLACE, Action.REPAIR, Action.ADOPT)
_PUT_BACK = tuple(
    cause for cause in Cause if cause is not Cause.STRAY
)  # nobody declared that, so nobody puts it back


class Metrics:
    """What may be counted is 0 before it happens, so that an increase shows from the first time on. What a look finds is not
    there before the first one: what nobody has seen is unknown. Raises ReconcilerError when `prometheus_client` is not installed."""

    def __init__(self, *, stack: str, version: str) -> None:
        try:
            from prometheus_client import CollectorRegistry, disable_created_metrics
        except ImportError as error:
            raise ReconcilerError(
                "metrics are asked for, and the package `prometheus_client` is not installed",
                hint="pip install 'sandbox-reconciler[metrics]'",
            ) from error
        self._stack = stack
        disable_created_metrics()  # type: ignore[no-untyped-call] # nobody asked for a gauge beside each counter
        self._registry = CollectorRegistry()
        self._backends: set[str] = set()
        self._incidents: dict[str, IncidentKind] = {}  # what is open, by key
        self._fleet()
        self._loop()
        self._trouble()
        self._gauge("build_info", "Always 1; the version that runs", "version").labels(stack, version).set(1)

    # -- what there is

    def _fleet(self) -> None:
        self._desired = self._gauge("desired", "Sandboxes that the configuration declares")
        self._observed = self._gauge("observed", "Sandboxes of this stack that the last look saw")
        self._ready = self._gauge("ready", "Sandboxes that were ready at the last look")
        self._drifted = self._gauge("drifted", "Sandboxes that are not as they were applied")
        self._waiting = self._gauge(
            "waiting", "Drifted sandboxes that are not put back now: too often, or not yet"
        )
        self._pending = self._gauge("pending", "Changes of the configuration that wait for an apply")
        self._backend_up = self._gauge("backend_up", "Whether the last look could see the backend", "backend")

    def _loop(self) -> None:
        self._looks = self._counter("looks", "Looks at the whole fleet", "trigger", "complete")
        self._last_look = self._gauge(
            "last_look_timestamp_seconds", "When the last look ended, in seconds since the epoch"
        )
        self._look_seconds = self._histogram("look_duration_seconds", "How long looks take", _LOOKS)
        self._corrections = self._counter(
            "corrections", "Corrections that came to their end", "action", "outcome", "cause"
        )
        self._time_to_correct = self._histogram(
            "time_to_correct_seconds", "From when a drift was seen until it was put back", _CORRECTIONS
        )
        self._leader = self._gauge(
            "leader", "Whether this one of several watches looks and acts; without election there is no value"
        )
        self._reloads = self._counter("reloads", "Times that the configuration was read again", "outcome")
        _begin(self._looks, (self._stack,), Trigger, ("true", "false"))
        _begin(self._corrections, (self._stack,), _PUTS_BACK, ("done", "failed"), _PUT_BACK)
        _begin(self._reloads, (self._stack,), ("done", "refused"))
        _begin(self._look_seconds, (self._stack,))
        _begin(self._time_to_correct, (self._stack,))

    def _trouble(self) -> None:
        self._open = self._gauge("incidents_open", "Incidents that are not over", "kind")
        self._opened = self._counter("incidents", "Incidents that were opened", "kind")
        self._notifications = self._counter(
            "notifications", "Notifications that came to their end", "outcome"
        )
        _begin(self._open, (self._stack,), IncidentKind)
        _begin(self._opened, (self._stack,), IncidentKind)
        self._entries = self._counter(
            "audit_entries", "Lines of the audit log, by what became of them", "outcome"
        )
        _begin(self._notifications, (self._stack,), Outcome)
        _begin(self._entries, (self._stack,), Entry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        from prometheus_client import Gauge

        return Gauge(f"reconciler_{name}", f"{text}.", ("stack", *labels), registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        from prometheus_client import Counter

        return Counter(f"reconciler_{name}", f"{text}.", ("stack", *labels), registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        from prometheus_client import Histogram

        return Histogram(
            f"reconciler_{name}", f"{text}.", ("stack",), buckets=buckets, registry=self._registry
        )

    # -- what happens

    def __call__(self, event: WatchEvent) -> None:
        match event:
            case WatchStarted():
                self._uses(event.backends)
            case Looked():
                self._looked(event)
            case Corrected():
                self._corrected(event)
            case IncidentOpened():
                self._opened.labels(self._stack, event.incident.kind).inc()
                self._incidents[event.incident.key] = event.incident.kind
                self._count_open(event.incident)
            case IncidentClosed():
                self._incidents.pop(event.incident.key, None)
                self._count_open(event.incident)
            case Reloaded():
                self._reloads.labels(self._stack, "done" if event.ok else "refused").inc()
                if event.ok:
                    self._uses(event.backends)
            case LeadershipChanged():
                self._led(event)
            case WatchStopped():
                pass

    def _led(self, event: LeadershipChanged) -> None:
        """What who stands by says of the fleet is old: its leader says it."""
        self._leader.labels(self._stack).set(event.leads)
        if not event.leads:
            for kind in set(self._incidents.values()):
                self._open.labels(self._stack, kind).set(0)
            self._incidents.clear()
            for gauge in (
                self._desired,
                self._observed,
                self._ready,
                self._drifted,
                self._waiting,
                self._pending,
            ):
                gauge.clear()
            self._backend_up.clear()
            self._backends.clear()
            self._last_look.clear()

    def notified(self, outcome: str) -> None:
        """One notification came to its end; what `Notifier` calls as `counted`."""
        self._notifications.labels(self._stack, outcome).inc()

    def audited(self, outcome: Entry, lines: int) -> None:
        """That became of so many lines of the audit log; what `AuditLog` calls as `counted`."""
        self._entries.labels(self._stack, outcome).inc(lines)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the format that an `Accept` header asks for, and its content type. For any thread."""
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def _uses(self, backends: Iterable[str]) -> None:
        """Of one that is not used any more nothing is known."""
        for gone in self._backends - set(backends):
            self._backend_up.remove(self._stack, harmless(gone))
        self._backends = set(backends)

    def _looked(self, look: Looked) -> None:
        stack = self._stack
        self._desired.labels(stack).set(look.desired)
        self._observed.labels(stack).set(look.observed)
        self._ready.labels(stack).set(look.ready)
        self._drifted.labels(stack).set(look.drifted)
        self._waiting.labels(stack).set(look.waiting)
        self._pending.labels(stack).set(look.pending)
        self._looks.labels(stack, look.trigger, "false" if look.failures else "true").inc()
        self._last_look.labels(stack).set(look.at)
        self._look_seconds.labels(stack).observe(look.seconds)
        self._backends |= set(look.failures)
        for name in self._backends:
            self._backend_up.labels(stack, harmless(name)).set(name not in look.failures)

    def _corrected(self, correction: Corrected) -> None:
        outcome = "done" if correction.ok else "failed"
        self._corrections.labels(self._stack, correction.action, outcome, correction.cause).inc()
        if correction.ok:
            self._time_to_correct.labels(self._stack).observe(correction.seconds)

    def _count_open(self, incident: Incident) -> None:
        count = sum(kind == incident.kind for kind in self._incidents.values())
        self._open.labels(self._stack, incident.kind).set(count)


def _begin(metric: Counter | Gauge | Histogram, *labels: Iterable[str]) -> None:
    """At 0, for each combination of these values."""
    for values in product(*labels):
        metric.labels(*values)
