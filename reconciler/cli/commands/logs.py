"""`reconciler logs ADDRESS`, through the backend."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import opened


@command("logs")
@click.argument("address")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.option("-F", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
def logs(call: Invocation, *, address: str, tail: int | None, follow: bool) -> int:
    """Print the log of the sandbox ADDRESS, oldest line first."""
    from reconciler.engine import inspect

    terminal = call.terminal
    on_terminal = terminal.out.isatty()
    with opened(call, secrets=False) as context:
        backend, info = inspect.locate(context, address)
        for text in backend.logs(info, tail=tail, follow=follow):
            if call.settings.json:
                terminal.line(line({"type": "log", "address": address, "line": text}))
            else:
                terminal.line(harmless(text) if on_terminal else text)
    return ExitCode.DONE
