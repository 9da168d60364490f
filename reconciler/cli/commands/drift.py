"""`reconciler drift`: what is not as it was last applied, why, and on request back again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from reconciler.cli import failure
from reconciler.cli.commands.plan import format_option
from reconciler.cli.durations import DURATION
from reconciler.cli.exit_codes import ExitCode, code_of
from reconciler.cli.options import Invocation, command
from reconciler.cli.wiring import opened
from reconciler.errors import PlanRefused
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.lifecycle import DriftPolicy

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.engine.correct import Correction
    from reconciler.engine.drift import DriftView
    from reconciler.model.desired import Address


@command("drift")
@click.option("--correct", is_flag=True, help="Put back what drifted, where `drift: correct` says so.")
@click.option("--fail-on-drift", is_flag=True, help="Exit code 2 when something drifted and is not put back.")
@click.option(
    "--lock-timeout",
    type=DURATION,
    default="0s",
    metavar="D",
    show_default=True,
    help="With --correct, wait this long for the lock: 30s, 5m.",
)
@format_option
def drift(call: Invocation, *, correct: bool, fail_on_drift: bool, lock_timeout: float, form: str) -> int:
    """Show what is not as it was last applied, each with its likely cause.

    Changes nothing without --correct. Edits of the configuration that wait for an apply are no drift. What `drift: report`
    says of a sandbox is only shown, and what `ignore` says it of is neither put back nor a reason for exit code 2.
    """
    if correct:
        return _correct(call, form, fail_on_drift=fail_on_drift, lock_timeout=lock_timeout)
    from reconciler.core.damping import Damping
    from reconciler.core.drift import correctable
    from reconciler.engine.drift import look_thoroughly
    from reconciler.engine.inspect import with_recorded_secrets

    with opened(call, secrets=False) as context:
        context.desired = with_recorded_secrets(context)
        seen, _ = look_thoroughly(context, Damping(), pause=_patience(call))
        _tell_lock(call, context)
        _show(call, context, seen, form)
    if seen.failures:
        return ExitCode.ERROR
    left = [found for found in seen.drifts if found.policy is not DriftPolicy.IGNORE]
    if form == "text" and any(correctable(found) and found.waits_for is None for found in left):
        call.note("Run `reconciler drift --correct` to put it back.")
    return ExitCode.CHANGES if fail_on_drift and left else ExitCode.DONE


def _correct(call: Invocation, form: str, *, fail_on_drift: bool, lock_timeout: float) -> int:
    from reconciler.cli.interrupts import draining
    from reconciler.cli.progress import progress_for
    from reconciler.core.damping import Damping
    from reconciler.core.drift import correctable
    from reconciler.engine.correct import Correction, correct
    from reconciler.engine.drift import look_for_drift, look_thoroughly
    from reconciler.engine.locking import locked
    from reconciler.engine.stop import StopRequest
    from reconciler.model.plan import Plan

    stop = StopRequest()
    with ExitStack() as stack:
        progress = stack.enter_context(progress_for(call))
        context = stack.enter_context(opened(call, emit=progress, writes=True))
        seen, vigil = look_thoroughly(context, Damping(), pause=_patience(call))
        done = Correction(plan=Plan(stack=context.desired.stack, lineage="", serial=0))
        if any(map(correctable, seen.drifts)):
            with locked(context, "drift", lock_timeout) as lease:
                seen = replace(
                    look_for_drift(context, silent=vigil.silent, origins=seen.origins), answers=seen.answers
                )
                due = [found.address for found in seen.drifts if correctable(found)]
                _show(call, context, seen, form)
                if seen.refusals():
                    raise PlanRefused("; ".join(seen.refusals()), hint=_why_so_many())
                stack.enter_context(draining(stop, progress.notice, live=call.terminal.live))
                done = correct(context, seen, due, lease, stop)
        else:
            _show(call, context, seen, form)
    if not call.settings.json and done.results:
        _tell_results(call, done)
    if done.unsaved is not None:
        raise done.unsaved
    code = code_of(done.results, interrupted=done.interrupted)
    if code is not ExitCode.DONE:
        return code
    if seen.failures:
        return ExitCode.ERROR
    back = {step.address for step, _ in done.ended()}
    return ExitCode.CHANGES if fail_on_drift and _left(seen, back) else ExitCode.DONE


def _left(seen: DriftView, back: set[Address]) -> bool:
    return any(found.policy is not DriftPolicy.IGNORE and found.address not in back for found in seen.drifts)


def _why_so_many() -> str:
    return (
        "look at the backend (`reconciler doctor`, `reconciler logs`); what is right is put back by `reconciler apply "
        "--target`"
    )


def _patience(call: Invocation) -> Callable[[float], None]:
    """Says once that somebody who does not answer is asked again."""
    import time

    told: list[bool] = []

    def pause(seconds: float) -> None:
        if not told:
            told.append(True)
            call.note("Some do not answer; asking again ...")
        time.sleep(seconds)

    return pause


def _tell_lock(call: Invocation, context: Context) -> None:
    """Whoever looks while an apply is at work sees changes under way."""
    held = context.store.lock_info()
    if held is not None and not context.store.abandoned():
        remark = Diagnostic(
            severity=Severity.NOTE,
            code="lock-held",
            summary=f"{held.holder} holds the lock: what it is changing just now looks like drift",
            fix="look again when it is done",
        )
        failure.show_diagnostics([remark], call)


def _show(call: Invocation, context: Context, seen: DriftView, form: str) -> None:
    fleet = len(seen.applied.desired.sandboxes)
    stack, pending, failures = context.desired.stack, seen.applied.pending, seen.failures
    if call.settings.json:
        from reconciler.cli.views.drift_json import drift_dicts

        for data in drift_dicts(seen.drifts, stack=stack, fleet=fleet, pending=pending, failures=failures):
            call.events.emit(data)
        return
    now, terminal = context.clock.now(), call.terminal
    if form == "markdown":
        from reconciler.cli.views.drift_markdown import drift_markdown

        terminal.answer(
            drift_markdown(seen.drifts, stack=stack, fleet=fleet, pending=pending, failures=failures, now=now)
        )
        return
    from reconciler.cli.views.drift import drift_text

    terminal.answer(
        drift_text(
            seen.drifts,
            stack=stack,
            fleet=fleet,
            pending=pending,
            failures=failures,
            now=now,
            width=terminal.width,
            style=terminal.style,
        )
    )


def _tell_results(call: Invocation, done: Correction) -> None:
    from reconciler.cli.views.report import report_text

    terminal = call.terminal
    terminal.line("")
    terminal.answer(
        report_text(
            done.results,
            seconds=max((result.seconds for result in done.results), default=0.0),
            interrupted=done.interrupted,
            destroy=False,
            reverts=(),
            width=terminal.width,
            style=terminal.style,
        )
    )
