"""`reconciler output`: the outputs of the stack."""

from __future__ import annotations

import json

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import no_such, opened


@command("output")
@click.argument("name", required=False)
def output(call: Invocation, *, name: str | None) -> int:
    """Print the outputs, or the bare value of the output NAME.

    Sensitive values are masked unless asked for by name.
    """
    from reconciler.cli.views.report import masked, outputs_text
    from reconciler.engine import workflow

    with opened(call, secrets=False) as context:
        values = workflow.outputs(context)
    if name is not None:
        if name not in values:
            raise no_such("output", name, sorted(values))
        value, _ = values[name]
        shown = (
            harmless(value) if call.terminal.out.isatty() else value
        )  # a backend may have put anything in a URL
        call.terminal.line(json.dumps(value) if call.settings.json else shown)
    elif call.settings.json:
        call.terminal.line(
            line(
                {
                    key: {"value": None if sensitive else value, "sensitive": sensitive}
                    for key, (value, sensitive) in sorted(values.items())
                }
            )
        )
    else:
        text = outputs_text(masked(values), style=call.terminal.style)
        call.terminal.answer(text or "No outputs are declared.\n")
    return ExitCode.DONE
