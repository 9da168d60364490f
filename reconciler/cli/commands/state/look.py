"""`reconciler state list`, `show` and `history`: the records and their versions, as they are."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.records import record_dict, record_text, state_dict, state_text
from reconciler.cli.views.style import harmless
from reconciler.cli.views.versions import history_text, version_dict
from reconciler.cli.wiring import no_such, opened_store
from reconciler.model.desired import Address, address_order


@command("list")
def state_list(call: Invocation) -> int:
    """List the recorded addresses, one a line."""
    with opened_store(call) as (_, store):
        read = store.read()
    addresses = sorted(read.sandboxes if read else (), key=address_order)
    if call.settings.json:
        call.terminal.line(line({"addresses": addresses}))
    else:
        call.terminal.answer("".join(f"{harmless(address)}\n" for address in addresses))
        if not addresses:
            call.note("Nothing is recorded yet; `reconciler apply` makes the first records.")
    return ExitCode.DONE


@command("show")
@click.argument("address")
def state_show(call: Invocation, *, address: str) -> int:
    """Show the record of ADDRESS. Secrets are there as digests only, and masked here."""
    with opened_store(call) as (_, store):
        read = store.read()
    records = read.sandboxes if read else {}
    if address not in records:
        raise no_such("record of", address, sorted(records))
    record = records[Address(address)]
    if call.settings.json:
        call.terminal.line(line(record_dict(record)))
    else:
        call.terminal.answer(record_text(record, style=call.terminal.style))
    return ExitCode.DONE


@command("history")
@click.argument("serial", required=False, type=click.IntRange(min=0))
def state_history(call: Invocation, *, serial: int | None) -> int:
    """List the versions of the state that can be had, newest first, or show what the version SERIAL records.

    Each write of the state keeps the version it replaces. `reconciler state rollback SERIAL` goes back to one.
    """
    return _history(call) if serial is None else _version(call, serial)


def _history(call: Invocation) -> int:
    terminal = call.terminal
    with opened_store(call) as (desired, store):
        versions, where = store.history(), store.describe()
    if call.settings.json:
        terminal.line(
            line({"stack": desired.stack, "versions": [version_dict(version) for version in versions]})
        )
        return ExitCode.DONE
    if versions:
        terminal.answer(history_text(versions, width=terminal.width, style=terminal.style))
    else:
        call.note(f"{harmless(where)} has no versions yet; `reconciler apply` writes the first.")
    if versions and not any(version.current for version in versions):
        call.note(f"{harmless(where)} itself cannot be read; `reconciler doctor` says why.")
    return ExitCode.DONE


def _version(call: Invocation, serial: int) -> int:
    terminal = call.terminal
    with opened_store(call) as (_, store):
        state, where = store.version(serial), store.describe()
    if call.settings.json:
        terminal.line(line(state_dict(state)))
    else:
        terminal.answer(state_text(state, where, width=terminal.width, style=terminal.style))
    return ExitCode.DONE
