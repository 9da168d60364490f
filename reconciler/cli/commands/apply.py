"""`reconciler apply` and `destroy`: plan, ask, do it, and say how every step ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from reconciler.cli.durations import DURATION
from reconciler.cli.exit_codes import ExitCode, code_of
from reconciler.cli.interrupts import draining
from reconciler.cli.options import Invocation, command
from reconciler.cli.progress import progress_for
from reconciler.cli.selectors import part_selectors, selection_of, selectors
from reconciler.cli.views.report import outputs_text, report_text
from reconciler.cli.wiring import load, opened
from reconciler.errors import ReconcilerError
from reconciler.model.plan import Plan, Selection

if TYPE_CHECKING:
    from reconciler.core.plan_file import Unverified
    from reconciler.engine.workflow import ApplyOptions, ApplyReport

_OPTIONS = (
    click.option("--auto-approve", is_flag=True, help="Do not ask; needed where nobody can answer."),
    click.option(
        "--parallelism",
        type=click.IntRange(min=1),
        metavar="N",
        help="At most N backend calls at a time. [default: what each backend says]",
    ),
    click.option(
        "--lock-timeout",
        type=DURATION,
        default="0s",
        metavar="D",
        show_default=True,
        help="Wait this long for the lock: 30s, 5m.",
    ),
    click.option(
        "--keep-going/--fail-fast",
        default=True,
        show_default=True,
        help="After a failure go on with what does not depend on it, or start nothing new.",
    ),
)


def _not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty", ctx=context, param=parameter)
    return value


def _options(function: Callable[..., int]) -> Callable[..., int]:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), function)


@command("apply")
@click.argument("plan_file", required=False, metavar="[PLANFILE]", type=click.Path(), callback=_not_empty)
@_options
@selectors
def apply(
    call: Invocation,
    *,
    plan_file: str | None,
    auto_approve: bool,
    parallelism: int | None,
    lock_timeout: float,
    keep_going: bool,
    **chosen: Any,
) -> int:
    """Make it so: create, change, replace and destroy until the fleet is as declared.

    Shows the plan, asks, and waits until every sandbox answers. The first Ctrl-C stops in good order, the second at
    once; the next run goes on from there either way.

    With PLANFILE, which `plan -o` made, nobody is asked, and nothing is done that is not in it. What moved since it was
    made is left alone and told; the rest is done, and the exit code is 6.
    """
    selection = selection_of(**chosen)
    if plan_file is not None and selection != Selection():
        raise click.UsageError(
            "a plan file has its selection in it: give --target and the like to the `plan` that makes it",
            ctx=click.get_current_context(silent=True),
        )
    options = _options_of(selection, parallelism, lock_timeout, keep_going)
    return _apply(call, options, auto_approve=auto_approve, plan_file=plan_file)


@command("destroy")
@_options
@part_selectors
def destroy(
    call: Invocation,
    *,
    auto_approve: bool,
    parallelism: int | None,
    lock_timeout: float,
    keep_going: bool,
    **chosen: Any,
) -> int:
    """Destroy every sandbox of the stack, or those selected, after asking. The same as `apply --destroy`."""
    selection = selection_of(**chosen, destroy=True)
    options = _options_of(selection, parallelism, lock_timeout, keep_going)
    return _apply(call, options, auto_approve=auto_approve)


def _options_of(
    selection: Selection, parallelism: int | None, lock_timeout: float, keep_going: bool
) -> ApplyOptions:
    from reconciler.engine.workflow import ApplyOptions

    return ApplyOptions(
        selection=selection,
        parallelism=parallelism,
        lock_timeout=lock_timeout,
        fail_fast=not keep_going,
    )


def _apply(
    call: Invocation, options: ApplyOptions, *, auto_approve: bool, plan_file: str | None = None
) -> int:
    unverified = None
    if plan_file is not None:
        from reconciler.cli.plan_files import read_plan_file

        unverified = read_plan_file(call.settings.path(plan_file), shown=plan_file)
        options = replace(options, selection=unverified.saved.plan.selection)
    elif not auto_approve and (call.settings.json or not call.terminal.interactive):
        load(call)  # what is wrong with the configuration has to be mended first
        verb = "destroy" if options.destroy else "apply"
        raise ReconcilerError(
            "nobody is here to approve the plan, so nothing was done",
            hint=f"look at `reconciler plan`, then run `reconciler {verb} --auto-approve`; or keep the plan with "
            "`reconciler plan -o FILE`, and apply that",
        )
    report = _run(call, options, unverified, ask=not auto_approve and unverified is None)
    if report.declined:
        call.note("Not approved; nothing was changed.")
        return ExitCode.ERROR
    if not call.settings.json:
        _tell(call, report)
    return code_of(report.results, interrupted=report.interrupted)


def _run(call: Invocation, options: ApplyOptions, unverified: Unverified | None, *, ask: bool) -> ApplyReport:
    from reconciler.engine import workflow
    from reconciler.engine.stop import StopRequest

    stop = StopRequest()
    with ExitStack() as stack:
        progress = stack.enter_context(progress_for(call))
        context = stack.enter_context(opened(call, emit=progress, writes=True, secrets=not options.destroy))
        if unverified is not None:  # the selection was looked at before; nothing else is until here
            saved = unverified.verified(key=context.key(), stack=context.desired.stack)
            options = replace(options, saved=saved)

        def confirm(plan: Plan) -> bool:
            approved = not ask or _ask(call, plan)
            if approved:  # until here Ctrl-C just leaves: nothing has been done that could be left half-way
                stack.enter_context(draining(stop, progress.notice, live=call.terminal.live))
            return approved

        return workflow.apply(context, options, confirm=confirm, stop=stop)


def _ask(call: Invocation, plan: Plan) -> bool:
    """Only `yes` is a yes."""
    everything = plan.destroy and not plan.selection.partial
    question = f"Destroy every sandbox of stack {plan.stack}?" if everything else "Do this?"
    call.terminal.tell(f"{question} Only `yes` is a yes.")
    call.terminal.err.write("  answer: ")
    call.terminal.err.flush()
    answer = call.terminal.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D, and the cursor is still behind the question
        call.terminal.err.write("\n")
    return answer.strip() == "yes"


def _tell(call: Invocation, report: ApplyReport) -> None:
    terminal = call.terminal
    if report.results or not report.plan.empty:
        terminal.line("")
        terminal.answer(
            report_text(
                report.results,
                seconds=report.seconds,
                interrupted=report.interrupted,
                destroy=report.plan.destroy,
                reverts=report.reverts,
                width=terminal.width,
                style=terminal.style,
            )
        )
    shown = outputs_text(report.outputs, style=terminal.style)
    if shown:
        terminal.answer("\n" + shown)
