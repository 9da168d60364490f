"""`reconciler plan`: what would change and why. Writes nothing."""

from __future__ import annotations

import click

from reconciler.cli import failure
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Given, Invocation, command
from reconciler.cli.wiring import opened
from reconciler.model.event import Planned
from reconciler.model.plan import Selection


def _json_is_json(context: click.Context, _option: click.Parameter, value: str) -> str:
    """`--format json` is `--json`, for errors too."""
    if value == "json":
        context.ensure_object(Given).add("json", True)
    return value


@command("plan")
@click.option("--detailed-exitcode", is_flag=True, help="Exit code 2 when there are changes, 0 when not.")
@click.option("--destroy", is_flag=True, help="Plan to destroy every sandbox of the stack.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    callback=_json_is_json,
    help="`markdown` is made for a pull-request comment.",
)
def plan(call: Invocation, *, detailed_exitcode: bool, destroy: bool, form: str) -> int:
    """Show what would change and why. Changes nothing."""
    from reconciler.engine import workflow

    with opened(call) as context:
        made = workflow.plan(context, Selection(destroy=destroy))
    if call.settings.json:
        call.events(Planned(plan=made))
    elif form == "markdown":
        from reconciler.cli.views.markdown import plan_markdown

        call.terminal.answer(plan_markdown(made))
    else:
        from reconciler.cli.views.human import plan_text

        failure.show_diagnostics(made.diagnostics, call)
        call.terminal.answer(plan_text(made, width=call.terminal.width, style=call.terminal.style))
        if not made.empty and not made.refusals:
            call.note(f"Run `reconciler {'destroy' if destroy else 'apply'}` to do this.")
    return ExitCode.CHANGES if detailed_exitcode and not made.empty else ExitCode.DONE
