"""`reconciler schema NAME`."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.wiring import usage_no_such


@command("schema", config=False)
@click.argument("name")
def schema(call: Invocation, *, name: str) -> int:
    """Print the JSON Schema NAME: audit, config, event, notification, plan or state.

    Editors complete and check `sandboxes.yaml` with `config`.
    """
    from reconciler.config.schemas import schema_names, schema_text

    names = schema_names()
    if name not in names:
        raise usage_no_such("schema", name, sorted(names))
    call.terminal.answer(schema_text(name).rstrip("\n") + "\n")
    return ExitCode.DONE
