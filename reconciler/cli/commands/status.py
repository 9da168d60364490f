"""`reconciler status`: every sandbox as it is now."""

from __future__ import annotations

import time

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.style import HOME_AND_CLEAR
from reconciler.cli.wiring import opened

_EVERY = 1.0


@command("status")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
def status(call: Invocation, *, addresses: tuple[str, ...], watch: bool) -> int:
    """Show address, phase, readiness, URL, drift, age, CPU, memory and backend of every sandbox.

    ADDRESS may be a glob: `researcher*`.
    """
    from reconciler.cli.views.jsonline import line
    from reconciler.cli.views.status import status_dict, status_text
    from reconciler.engine import inspect
    from reconciler.engine.usage import Meter

    terminal = call.terminal
    meter = Meter()
    with opened(call, secrets=False) as context:
        while True:
            rows = inspect.status(context, addresses, meter=meter)
            if call.settings.json:
                terminal.line(line(status_dict(context.desired.stack, rows)))
            else:
                text = status_text(rows, width=terminal.width, style=terminal.style)
                redraw = watch and terminal.out.isatty()
                terminal.answer(HOME_AND_CLEAR + text if redraw else text)
            if not watch:
                return ExitCode.DONE
            time.sleep(_EVERY)
