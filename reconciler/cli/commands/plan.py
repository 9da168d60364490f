"""`reconciler plan`: what would change and why. Writes nothing but the plan file that is asked for."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli import failure
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Given, Invocation, command
from reconciler.cli.selectors import selection_of, selectors
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import opened
from reconciler.model.event import Planned
from reconciler.model.plan import Plan


def _json_is_json(context: click.Context, _option: click.Parameter, value: str) -> str:
    """`--format json` is `--json`, for errors too."""
    if value == "json":
        context.ensure_object(Given).add("json", True)
    return value


def _a_file(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("it is empty", ctx=context, param=option)
    if value == "-":
        raise click.BadParameter(
            "a plan is kept in a file; --json prints one for programs", ctx=context, param=option
        )
    return value


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    callback=_json_is_json,
    help="`markdown` is made for a pull-request comment.",
)


@command("plan")
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    callback=_a_file,
    help="Keep the plan in FILE, for `apply FILE` and `show FILE`.",
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit code 2 when there are changes, 0 when not.")
@selectors
@format_option
def plan(call: Invocation, *, out: str | None, detailed_exitcode: bool, form: str, **chosen: Any) -> int:
    """Show what would change and why. Changes nothing.

    With -o the plan is kept in a file. `apply FILE` asks nobody and does what the plan says, and nothing else: a sandbox
    that moved since is left alone and told.
    """
    from reconciler.engine.survey import survey

    selection = selection_of(**chosen)
    with opened(call) as context:
        if out is not None:
            from reconciler.cli.plan_files import check_place

            check_place(call.settings.path(out), shown=out, taken=context.desired.files)
        made = survey(context, selection).plan
        show_plan(call, made, form)
        if out is not None:
            from reconciler.cli.plan_files import write_plan_file

            write_plan_file(call.settings.path(out), made, context, shown=out)
    if made.refusals:
        return ExitCode.REFUSED
    if form == "text":
        _tell_next(call, made, out)
    return ExitCode.CHANGES if detailed_exitcode and not made.empty else ExitCode.DONE


def show_plan(call: Invocation, made: Plan, form: str) -> None:
    """The same for a plan that was just made and for one from a file."""
    if call.settings.json:
        call.events(Planned(plan=made))
    elif form == "markdown":
        from reconciler.cli.views.markdown import plan_markdown

        call.terminal.answer(plan_markdown(made))
    else:
        from reconciler.cli.views.human import plan_text

        failure.show_diagnostics(made.diagnostics, call)
        call.terminal.answer(plan_text(made, width=call.terminal.width, style=call.terminal.style))


def _tell_next(call: Invocation, made: Plan, out: str | None) -> None:
    if made.refusals:
        return
    if out is not None:
        import shlex

        name = harmless(shlex.quote(out))
        call.note(f"Kept in {name}. Run `reconciler apply {name}` to do this, and nothing else.")
    elif not made.empty:
        verb = "destroy" if made.destroy else "apply"
        same = ", with the same selection," if made.selection.partial else ""
        call.note(f"Run `reconciler {verb}`{same} to do this.")
