"""`reconciler state rollback`: an older version is the state again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli.commands.state.edit import DRY_RUN, LOCK_TIMEOUT, tell, teller
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.surgery import rollback_question, rollback_told, rolled_back_text
from reconciler.cli.wiring import opened
from reconciler.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.engine.surgery import Edit


@command("rollback")
@click.argument("serial", type=click.IntRange(min=0))
@click.option("--auto-approve", is_flag=True, help="Do not ask; needed where nobody can answer.")
@DRY_RUN
@LOCK_TIMEOUT
def state_rollback(
    call: Invocation, *, serial: int, auto_approve: bool, dry_run: bool, lock_timeout: float
) -> int:
    """Make the version SERIAL the state again, after asking. `reconciler state history` lists the versions.

    Only records change: no sandbox is touched. It becomes the next serial, and the version before can be had again in the
    same way. Where the records and what is live differ afterwards is what the next plan is about.
    """
    from reconciler.engine.surgery import rollback

    asks = not (auto_approve or dry_run)
    if asks and (call.settings.json or not call.terminal.interactive):
        raise ReconcilerError(
            "nobody is here to approve it, so nothing was done",
            hint=f"look with `reconciler state rollback {serial} --dry-run`, then give --auto-approve",
        )
    declined = False

    def confirm(edit: Edit) -> bool:
        nonlocal declined
        declined = asks and not _ask(call, edit, serial)
        return not declined

    with opened(call, emit=teller(call), secrets=False) as context:
        where = context.store.describe()
        edit = rollback(context, serial, confirm=confirm, lock_timeout=lock_timeout, dry_run=dry_run)
    if declined:
        call.note("Not approved; nothing was changed.")
        return ExitCode.ERROR
    return tell(call, edit, "state_rollback", rolled_back_text, where, rollback_told(edit), version=serial)


def _ask(call: Invocation, edit: Edit, serial: int) -> bool:
    """Only `yes` is a yes."""
    call.terminal.tell(rollback_question(edit, serial, width=call.terminal.width))
    call.terminal.err.write("  answer: ")
    call.terminal.err.flush()
    answer = call.terminal.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D, and the cursor is still behind the question
        call.terminal.err.write("\n")
    return answer.strip() == "yes"
