"""`reconciler state mv` and `state rm`: the records change, the sandboxes do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import failure
from reconciler.cli.durations import DURATION
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.surgery import edit_dict, forgotten_text, moved_text, undo_text
from reconciler.cli.wiring import opened
from reconciler.model.event import Event, Remark

if TYPE_CHECKING:
    from reconciler.engine.surgery import Edit

LOCK_TIMEOUT = click.option(
    "--lock-timeout",
    type=DURATION,
    default="0s",
    metavar="D",
    show_default=True,
    help="Wait this long for the lock: 30s, 5m.",
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")


@command("mv")
@click.argument("source")
@click.argument("target")
@DRY_RUN
@LOCK_TIMEOUT
def state_mv(call: Invocation, *, source: str, target: str, dry_run: bool, lock_timeout: float) -> int:
    """Record what is SOURCE as TARGET, so that a renamed sandbox is not made anew.

    Both are addresses, or both are names of groups: then each of the group keeps its key. The sandboxes are left as they
    are. The version before can be had again: `reconciler state history`.
    """
    from reconciler.engine.surgery import move

    with opened(call, emit=teller(call), secrets=False) as context:
        where = context.store.describe()
        edit = move(context, source, target, lock_timeout=lock_timeout, dry_run=dry_run)
    told = "Next: name them so in the configuration as well; `reconciler plan` shows what is left to do."
    return tell(call, edit, "state_mv", moved_text, where, told)


@command("rm")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@DRY_RUN
@LOCK_TIMEOUT
def state_rm(call: Invocation, *, addresses: tuple[str, ...], dry_run: bool, lock_timeout: float) -> int:
    """Let go of the sandboxes ADDRESS: they run on, and no plan touches them any more.

    ADDRESS is an address, the name of a group, a glob such as `researcher*`, or `label:team=search`. The version before can
    be had again: `reconciler state history`.
    """
    from reconciler.engine.surgery import forget

    with opened(call, emit=teller(call), secrets=False) as context:
        where = context.store.describe()
        edit = forget(context, addresses, lock_timeout=lock_timeout, dry_run=dry_run)
    told = "Next: take them out of the configuration as well, or the next apply makes new ones."
    return tell(call, edit, "state_rm", forgotten_text, where, told)


def teller(call: Invocation) -> Callable[[Event], None]:
    """Says whom we wait for."""

    def emit(event: Event) -> None:
        if isinstance(event, Remark):
            failure.show_diagnostics([event.diagnostic], call)

    return emit


def tell(
    call: Invocation, edit: Edit, kind: str, text: Callable[..., str], where: str, told: str, **more: Any
) -> int:
    """What was done on stdout; the next step and the way back beside it, on stderr."""
    terminal = call.terminal
    if call.settings.json:
        terminal.line(line({**edit_dict(edit, kind), **more}))
        return ExitCode.DONE
    terminal.answer(text(edit, where, width=terminal.width))
    if edit.written:
        for sentence in (told, undo_text(edit)):
            if sentence:
                call.note(sentence)
    return ExitCode.DONE
