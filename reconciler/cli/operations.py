"""What a watch has beside its loop, as it was asked for: metrics and health, an audit log, webhooks, systemd, traces.

Each is imported when it is asked for, and none of them when it is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from reconciler import __version__
from reconciler.cli.options import Invocation
from reconciler.model.desired import Secret
from reconciler.model.watching import WatchEvent

if TYPE_CHECKING:
    from reconciler.operations.audience import Listener, Scrub
    from reconciler.operations.audit import Entry
    from reconciler.operations.webhook import Webhook

JSON_HOOKS, SLACK_HOOKS = "RECONCILER_NOTIFY", "RECONCILER_NOTIFY_SLACK"


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line asks for. `listen` is an address, or None. `once`: one look, which is no service that could be
    ready, be reloaded or hang, so systemd is told nothing of it."""

    once: bool = False
    listen: str | None = None
    audit: str | None = None
    notify: tuple[str, ...] = ()


class Beside(Struct, kw_only=True):
    """`tell` gets the events of the watch, the others are called when the loop moves, when a signal asks for another
    configuration, and for a stop. For signal handlers the last two."""

    tell: Callable[[WatchEvent], None]
    moved: list[Callable[[], None]] = field(default_factory=list)
    on_reload: list[Callable[[], None]] = field(default_factory=list)
    on_stop: list[Callable[[], None]] = field(default_factory=list)

    def alive(self) -> None:
        for call in self.moved:
            call()


@contextmanager
def beside(
    call: Invocation, asked: Asked, *, stack: str, listeners: Sequence[Listener], scrub: Scrub
) -> Iterator[Beside]:
    """`listeners` are told as well, before the others. Raises ReconcilerError for what cannot be had."""
    from reconciler.operations.audience import Audience

    def told(text: str) -> None:
        call.terminal.tell(text)

    with ExitStack() as ends:
        made = Beside(tell=_nobody)
        heard: list[Listener] = [*listeners, *_operations(call, asked, stack, made, ends, told)]
        made.tell = Audience(heard, told=told, scrub=scrub)
        yield made


def _operations(
    call: Invocation,
    asked: Asked,
    stack: str,
    made: Beside,
    ends: ExitStack,
    told: Callable[[str], None],
) -> Iterator[Listener]:
    notified: Callable[[str], None] = _nobody
    audited: Callable[[Entry, int], None] = _nobody
    if asked.listen is not None:
        from reconciler.operations.endpoints import Endpoints
        from reconciler.operations.health import Health
        from reconciler.operations.metrics import Metrics

        health, metrics = Health(), Metrics(stack=stack, version=__version__)
        at = ends.enter_context(Endpoints(asked.listen, health=health, metrics=metrics.render))
        _tell_where(call, at.address, asked.listen)
        made.moved.append(health.tick)
        notified, audited = metrics.notified, metrics.audited
        yield health
        yield metrics
    if asked.audit is not None:
        from reconciler.operations.audit import AuditLog

        path = Path(call.settings.path(asked.audit))
        audit = AuditLog(path, stack=stack, version=__version__, told=told, counted=audited)
        ends.callback(audit.close)
        made.moved.append(audit.sync)
        made.on_reload.append(audit.reopen)
        yield audit
    hooks = _webhooks(call, asked)
    if hooks:
        from reconciler.operations.notify import Notifier

        notifier = Notifier(hooks, stack=stack, version=__version__, told=told, counted=notified)
        ends.callback(notifier.close)
        yield notifier
    yield from _around(call, asked, stack, made, ends, told)


def _tell_where(call: Invocation, address: str, asked: str) -> None:
    """A port that was chosen can be known from nowhere else, so `-q` does not hide it."""
    if call.settings.json:
        from reconciler.cli.views.drift_json import listening_dict

        call.events.emit(listening_dict(address, time.time()))
    elif not call.settings.quiet or address.rpartition(":")[2] != asked.rpartition(":")[2]:
        call.terminal.tell(f"metrics and health are at http://{address}")


def _around(
    call: Invocation,
    asked: Asked,
    stack: str,
    made: Beside,
    ends: ExitStack,
    told: Callable[[str], None],
) -> Iterator[Listener]:
    """What the environment asks for."""
    if call.environ.get("NOTIFY_SOCKET") and not asked.once:
        from reconciler.operations.systemd import Systemd

        systemd = Systemd(call.environ)
        ends.callback(systemd.close)
        made.moved.append(systemd.tick)
        made.on_reload.append(systemd.reloading)
        made.on_stop.append(systemd.stopping)
        yield systemd
    if any(name.startswith("OTEL_EXPORTER_OTLP") for name in call.environ):
        from reconciler.operations.traces import traces_of

        traces = traces_of(call.environ, stack=stack, version=__version__, told=told)
        if traces is not None:
            ends.callback(traces.close)
            yield traces


def _nobody(*_: object) -> None:
    """Where nothing was asked for, nobody hears of it."""


def _webhooks(call: Invocation, asked: Asked) -> list[Webhook]:
    named = [
        (url, slack)
        for slack, urls in (
            (False, (*asked.notify, *call.environ.get(JSON_HOOKS, "").split())),
            (True, call.environ.get(SLACK_HOOKS, "").split()),
        )
        for url in urls
    ]
    if not named:
        return []
    from reconciler.operations.webhook import Format, Webhook

    return [Webhook(url=Secret(url), format=Format.SLACK if slack else Format.JSON) for url, slack in named]
