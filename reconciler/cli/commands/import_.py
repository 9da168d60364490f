"""`reconciler import ADDRESS ID`: record a running sandbox that others made, and say what the next plan does to it."""

from __future__ import annotations

import click

from reconciler.cli import failure
from reconciler.cli.durations import DURATION
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.wiring import opened
from reconciler.core.identity import is_sandbox_id
from reconciler.model.event import Event, Remark


def _checked_id(_context: click.Context, _argument: click.Parameter, value: str) -> str:
    if not is_sandbox_id(value):
        raise click.BadParameter(
            "the name that the backend has for it needs to be 1 to 51 of a-z, 0-9 and -, such as "
            "deer-flow-sandbox-ab12cd34."
        )
    return value


@command("import")
@click.argument("address")
@click.argument("sandbox_id", metavar="ID", callback=_checked_id)
@click.option(
    "--lock-timeout",
    type=DURATION,
    default="0s",
    metavar="D",
    show_default=True,
    help="Wait this long for the lock: 30s, 5m.",
)
def import_command(call: Invocation, *, address: str, sandbox_id: str, lock_timeout: float) -> int:
    """Take over the running sandbox ID, which others made, as ADDRESS.

    ID is the name that the backend has for it. ADDRESS must be declared, and not be recorded yet. The sandbox itself
    is left as it is; from then on it is ours: a later apply may change, replace or destroy it.
    """
    from reconciler.cli.views.imported import import_dict, import_text
    from reconciler.engine.importing import import_sandbox

    def tell(event: Event) -> None:
        if isinstance(event, Remark):
            failure.show_diagnostics([event.diagnostic], call)

    with opened(call, emit=tell, writes=True) as context:
        report = import_sandbox(context, address, sandbox_id, lock_timeout=lock_timeout)
    terminal = call.terminal
    if call.settings.json:
        terminal.line(line(import_dict(report)))
    else:
        failure.show_diagnostics(report.diagnostics, call)
        terminal.answer(import_text(report, width=terminal.width, style=terminal.style))
    return ExitCode.DONE
