"""Which view an apply talks to: JSON events, a live picture on a terminal, or plain lines elsewhere.

A view that cannot be written to any more (the reader of a pipe is gone) never ends the apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from reconciler.cli import failure
from reconciler.cli.interrupts import write_notice
from reconciler.model.event import ApplyEnded, Event, Planned, Remark, StepEnded, StepProgress, StepStarted
from reconciler.model.outcome import StepStatus

if TYPE_CHECKING:
    from reconciler.cli.options import Invocation
    from reconciler.model.plan import Plan


class Progress(Protocol):
    """Takes the events of a run; `notice` is for a signal handler to say that the run is stopping."""

    def __call__(self, event: Event) -> None: ...

    def notice(self, text: str) -> None: ...


@contextmanager
def progress_for(call: Invocation) -> Iterator[Progress]:
    if call.settings.json:
        yield _Json(call)
    elif call.terminal.live and not call.settings.quiet:
        from reconciler.cli.views.live import LiveProgress

        with LiveProgress(call.terminal.err, call.terminal.err_style) as live:
            yield _Human(call, live, live.notice)
    else:
        from reconciler.cli.views.plain import PlainProgress

        plain = PlainProgress(call.terminal.tell, call.terminal.err_style)
        yield _Human(call, _failures_only(plain) if call.settings.quiet else plain)


class _Json:
    def __init__(self, call: Invocation) -> None:
        self._call = call

    def __call__(self, event: Event) -> None:
        try:
            self._call.events(event)
        except BrokenPipeError:
            self._call.terminal.abandon_broken()

    def notice(self, text: str) -> None:
        write_notice(text)


class _Human:
    def __init__(
        self,
        call: Invocation,
        steps: Callable[[Event], None],
        notice: Callable[[str], None] = write_notice,
    ) -> None:
        self._call = call
        self._steps = steps
        self._notice = notice

    def notice(self, text: str) -> None:
        self._notice(text)

    def __call__(self, event: Event) -> None:
        try:
            match event:
                case Remark():
                    failure.show_diagnostics([event.diagnostic], self._call)
                case Planned():
                    self._show_plan(event.plan)
                    self._steps(event)
                case StepStarted() | StepProgress() | StepEnded() | ApplyEnded():
                    self._steps(event)
        except BrokenPipeError:
            self._call.terminal.abandon_broken()

    def _show_plan(self, plan: Plan) -> None:
        from reconciler.cli.views.human import plan_text

        terminal = self._call.terminal
        failure.show_diagnostics(plan.diagnostics, self._call)
        terminal.answer(plan_text(plan, width=terminal.width, style=terminal.style))
        if not plan.empty:
            self._call.note("")


def _failures_only(steps: Callable[[Event], None]) -> Callable[[Event], None]:
    def filtered(event: Event) -> None:
        if isinstance(event, StepEnded) and event.result.status is StepStatus.FAILED:
            steps(event)

    return filtered
