"""`reconciler watch`: the correction loop, for systemd, a container, or a terminal."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import failure
from reconciler.cli.durations import DURATION, RATE, SHARE
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.wiring import load
from reconciler.model.event import Event, Planned, Remark
from reconciler.model.watching import (
    Corrected,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    WatchEvent,
)

if TYPE_CHECKING:
    from reconciler.cli.operations import Beside
    from reconciler.engine.leading import Leading
    from reconciler.engine.stop import StopRequest
    from reconciler.engine.watch import Watch

_SHORTEST = 1.0  # seconds


def _interval(context: click.Context, option: click.Parameter, value: float) -> float:
    if value < _SHORTEST:
        raise click.BadParameter("a look takes longer than that; 1s is the least", ctx=context, param=option)
    return value


@command("watch")
@click.option(
    "--interval",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="D",
    callback=_interval,
    help="Look at least this often.",
)
@click.option("--once", is_flag=True, help="Look once, put back what has to be, and leave: for cron.")
@click.option(
    "--events/--no-events",
    default=True,
    show_default=True,
    help="Look at once when a backend tells that something happened.",
)
@click.option(
    "--silent-after",
    type=SHARE,
    default="3/5",
    show_default=True,
    metavar="N/M",
    help="What fails N of its last M probes does not answer.",
)
@click.option(
    "--longest-pause",
    type=DURATION,
    default="5m",
    show_default=True,
    metavar="D",
    help="Pauses between two corrections of one sandbox double from 1s to this.",
)
@click.option(
    "--give-up",
    type=RATE,
    default="8/1h",
    show_default=True,
    metavar="N/D",
    help="Leave alone what was put back N times within D.",
)
@click.option(
    "--leader-elect",
    is_flag=True,
    help="Look and act only while leading: of several watches of one stack one does, and the others stand by. Needs "
    "`state: {store: kubernetes}`.",
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Serve /metrics, /healthz and /readyz there: 127.0.0.1:9464, or a port of the loopback.",
)
@click.option("--audit", metavar="FILE", help="Append a JSON line for each correction and incident.")
@click.option(
    "--notify",
    multiple=True,
    metavar="URL",
    help="Post each incident and its end there, as JSON; may be repeated. Better RECONCILER_NOTIFY or, for Slack and "
    "Mattermost, RECONCILER_NOTIFY_SLACK: a URL is often a secret.",
)
def watch(
    call: Invocation,
    *,
    interval: float,
    once: bool,
    events: bool,
    silent_after: tuple[int, int],
    longest_pause: float,
    give_up: tuple[int, float],
    leader_elect: bool,
    **asked: Any,
) -> int:
    """Look at the fleet again and again, and put back what drifted.

    What is put back is what was last applied: edits of the configuration wait for an apply. The files are read again when
    they change; what is not valid is told, and the configuration before goes on. `drift: report` and `drift: ignore` say of
    a sandbox that it is left alone.

    SIGTERM and Ctrl-C stop in good order. SIGHUP reads the configuration again, opens the audit log anew, and tries again
    what was given up. systemd is told of it all by itself.
    """
    if once and leader_elect:
        raise click.UsageError(
            "--once looks and leaves, so there is nothing to lead: leave --leader-elect out"
        )
    from reconciler.cli.operations import Asked, beside
    from reconciler.cli.watched import Files
    from reconciler.core.damping import Damping
    from reconciler.engine.stop import StopRequest
    from reconciler.engine.watch import Watch, WatchOptions

    gc.set_threshold(
        700, 10, 10
    )  # it lives for months: what goes in circles must not pile up as in a short command
    stop = StopRequest()
    heard, remarks = _Heard(), _Remarks(call)
    files = Files(call, remarks)
    damping = Damping(
        failures=silent_after[0],
        of=silent_after[1],
        longest=longest_pause,
        give_up=give_up[0],
        window=give_up[1],
    )
    with ExitStack() as stack:
        name = load(call).desired.stack
        listeners: list[Callable[[WatchEvent], None]] = [_told(call), heard]
        others = stack.enter_context(
            beside(call, Asked(**asked), stack=name, listeners=listeners, scrub=files.scrub)
        )
        remarks.moved = others.alive
        options = WatchOptions(interval=interval, events=events, damping=damping)

        def watching(until: StopRequest) -> Watch:
            return Watch(files, options, tell=others.tell, stop=until, alive=others.alive)

        loop: Watch | Leading = watching(stop)
        if leader_elect:
            from reconciler.engine.leading import Leading

            loop = Leading(files, watching, tell=others.tell, stop=stop, alive=others.alive)
        stack.enter_context(_signals(loop, stop, others))
        if once:
            watching(stop).once()
        else:
            loop.run()
    return heard.code if once else ExitCode.DONE


def _told(call: Invocation) -> Callable[[WatchEvent], None]:
    if call.settings.json:
        from reconciler.cli.views.drift_json import watch_dict

        return lambda event: call.events.emit(watch_dict(event))
    from reconciler.cli.views.watching import WatchLines

    terminal = call.terminal
    return WatchLines(
        terminal.line, terminal.style, all_looks=call.settings.verbose, quiet=call.settings.quiet
    )


class _Remarks:
    """Of the events of a run, what is not told by the watch itself."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        self._said = ""
        self.moved: Callable[[], None] = lambda: (
            None
        )  # what happens in a correction shows that the loop lives

    def __call__(self, event: Event) -> None:
        self.moved()
        if isinstance(event, Remark) and event.diagnostic.summary != self._said:
            self._said = event.diagnostic.summary
            failure.show_diagnostics([event.diagnostic], self._call)
        elif isinstance(event, Planned):
            failure.show_diagnostics(event.plan.diagnostics, self._call)


class _Heard:
    """What a single look came to, as an exit code."""

    def __init__(self) -> None:
        self._failed = False
        self._open: set[IncidentKind] = set()

    def __call__(self, event: WatchEvent) -> None:
        match event:
            case Corrected():
                self._failed = self._failed or not event.ok
            case IncidentOpened(incident=incident):
                self._open.add(incident.kind)
            case IncidentClosed(incident=incident):
                self._open.discard(incident.kind)
            case _:
                pass

    @property
    def code(self) -> ExitCode:
        if self._failed:
            return ExitCode.INCOMPLETE
        if self._open & {IncidentKind.FLEET, IncidentKind.REFUSED}:
            return ExitCode.REFUSED
        return ExitCode.ERROR if IncidentKind.BACKEND in self._open else ExitCode.DONE


@contextmanager
def _signals(loop: Watch | Leading, stop: StopRequest, others: Beside) -> Iterator[None]:
    """SIGINT and SIGTERM stop it, the second of them at once; SIGHUP has the configuration read again."""
    import os

    from reconciler.cli.interrupts import write_notice

    def stops(_number: int, _frame: object) -> None:
        if stop.requested:
            os._exit(ExitCode.INTERRUPTED)
        stop.request()
        for tell in others.on_stop:
            tell()
        write_notice("stopping: what is under way is finished and recorded; once more to leave at once")

    def reloads(_number: int, _frame: object) -> None:
        for tell in others.on_reload:
            tell()
        loop.reload()

    wanted = {signal.SIGINT: stops, signal.SIGTERM: stops, signal.SIGHUP: reloads}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
