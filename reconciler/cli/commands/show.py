"""`reconciler show`: what is recorded, of the stack or of one sandbox. Asks no backend."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.records import record_dict, record_text, state_dict, state_text
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import no_such, opened_store
from reconciler.model.desired import Address


@command("show")
@click.argument("address", required=False)
def show(call: Invocation, *, address: str | None) -> int:
    """Show what was last applied: of the whole stack, or of ADDRESS in full.

    This reads the state only; `reconciler status` looks at the sandboxes themselves.
    """
    terminal = call.terminal
    with opened_store(call) as (desired, store):
        read, where = store.read(), store.describe()
    if read is None:
        if address is not None:
            raise no_such("record of", address, ())
        if call.settings.json:
            terminal.line(line({"stack": desired.stack, "state": None}))
        else:
            terminal.line(f"Stack {harmless(desired.stack)} has no state yet ({harmless(where)}).")
            call.note("`reconciler apply` makes it.")
        return ExitCode.DONE
    if address is None:
        if call.settings.json:
            terminal.line(line(state_dict(read)))
        else:
            terminal.answer(state_text(read, where, width=terminal.width, style=terminal.style))
        return ExitCode.DONE
    if address not in read.sandboxes:
        raise no_such("record of", address, sorted(read.sandboxes))
    record = read.sandboxes[Address(address)]
    terminal.answer(
        line(record_dict(record)) + "\n" if call.settings.json else record_text(record, style=terminal.style)
    )
    return ExitCode.DONE
