"""`reconciler why ADDRESS`: from the line in the YAML to what the next apply will do."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.wiring import opened


@command("why")
@click.argument("address")
def why(call: Invocation, *, address: str) -> int:
    """Explain the sandbox ADDRESS: what is declared, recorded and there, and what the next apply will do."""
    from reconciler.cli.views.explanation import explanation_dict, explanation_text
    from reconciler.engine import explain

    with opened(call) as context:
        made = explain.why(context, address)
    terminal = call.terminal
    if call.settings.json:
        terminal.line(line(explanation_dict(made)))
    else:
        terminal.answer(explanation_text(made, width=terminal.width, style=terminal.style))
    return ExitCode.DONE
