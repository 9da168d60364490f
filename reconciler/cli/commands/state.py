"""`reconciler state list` and `state show`: the records, as they are."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.groups import LazyGroup
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.records import record_dict, record_text
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import no_such, opened_store
from reconciler.model.desired import Address, address_order

state = LazyGroup(
    name="state",
    help="The records of what was last applied.",
    listing={
        "Commands": {
            "list": (f"{__name__}:state_list", "List the recorded addresses."),
            "show": (f"{__name__}:state_show", "Show one record."),
        }
    },
)


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
