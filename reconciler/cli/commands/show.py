"""`reconciler show`: what is recorded, of the stack or of one sandbox, and what is in a plan file. Asks no backend."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from reconciler.cli.commands.plan import format_option, show_plan
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.records import record_dict, record_text, state_dict, state_text
from reconciler.cli.views.style import harmless
from reconciler.cli.views.values import age
from reconciler.cli.wiring import no_such, opened_store
from reconciler.core.migration import refuse_migrated
from reconciler.errors import ReconcilerError
from reconciler.model.desired import Address

if TYPE_CHECKING:
    from reconciler.core.plan_file import Unverified
    from reconciler.model.saved import SavedPlan
    from reconciler.model.state import State


@command("show")
@click.argument("what", required=False, metavar="[ADDRESS|PLANFILE]")
@format_option
def show(call: Invocation, *, what: str | None, form: str) -> int:
    """Show what was last applied: of the whole stack, or of ADDRESS in full. Or show PLANFILE, as `plan -o` printed it.

    The state is read and nothing else; `reconciler status` looks at the sandboxes themselves. A name that is recorded as
    an address and is a file too means the address; `./NAME` means the file. --format is for a plan file.
    """
    is_file = what is not None and os.path.lexists(call.settings.path(what))
    try:
        with opened_store(call) as (desired, store):
            read, where, key = store.read(), store.describe(), store.secret_key(create=False)
            refuse_migrated(read, where)
    except ReconcilerError:
        if what is None or not is_file:
            raise
        return _show_file(call, what, form, stack=None, key=None)  # a plan needs no configuration to be read
    if what is not None and is_file and (read is None or what not in read.sandboxes):
        return _show_file(call, what, form, stack=desired.stack, key=key)
    if read is None:
        return _nothing_yet(call, what, desired.stack, where)
    return _show_state(call, what, read, where)


def _nothing_yet(call: Invocation, address: str | None, stack: str, where: str) -> int:
    if address is not None:
        raise no_such("record or plan file", address, ())
    if call.settings.json:
        call.terminal.line(line({"stack": stack, "state": None}))
    else:
        call.terminal.line(f"Stack {harmless(stack)} has no state yet ({harmless(where)}).")
        call.note("`reconciler apply` makes it.")
    return ExitCode.DONE


def _show_state(call: Invocation, address: str | None, read: State, where: str) -> int:
    terminal = call.terminal
    if address is None:
        if call.settings.json:
            terminal.line(line(state_dict(read)))
        else:
            terminal.answer(state_text(read, where, width=terminal.width, style=terminal.style))
        return ExitCode.DONE
    if address not in read.sandboxes:
        raise no_such("record or plan file", address, sorted(read.sandboxes))
    record = read.sandboxes[Address(address)]
    terminal.answer(
        line(record_dict(record)) + "\n" if call.settings.json else record_text(record, style=terminal.style)
    )
    return ExitCode.DONE


def _show_file(call: Invocation, name: str, form: str, *, stack: str | None, key: bytes | None) -> int:
    from reconciler.cli.plan_files import read_plan_file

    unverified = read_plan_file(call.settings.path(name), shown=name)
    saved, doubt = _vouched(unverified, stack, key)
    if call.settings.json:
        from reconciler.cli.views.json import JsonLines
        from reconciler.model.event import Planned

        JsonLines(call.terminal.line, operation="plan")(Planned(plan=saved.plan))
        return ExitCode.DONE
    show_plan(call, saved.plan, form)
    made = f"Made {age(time.time() - saved.made_at)} ago for stack {harmless(saved.plan.stack)}"
    call.note(f"{made}, by reconciler {harmless(saved.tool)}, on serial {saved.plan.serial} of its state.")
    if doubt:
        call.note(doubt)
    return ExitCode.DONE


def _vouched(unverified: Unverified, stack: str | None, key: bytes | None) -> tuple[SavedPlan, str]:
    """The plan, and what cannot be said of it here. Raises PlanFileBroken for one that is known to be edited."""
    keyed, saved = unverified.keyed, unverified.saved
    if keyed and (stack != saved.plan.stack or key is None):
        return saved, "Whether it was edited cannot be told here: the key of its stack is not."
    return unverified.verified(key=key, stack=saved.plan.stack), ""
