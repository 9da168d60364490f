"""`reconciler exec ADDRESS -- CMD`, through the backend."""

from __future__ import annotations

import click

from reconciler.cli.durations import DURATION
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.wiring import opened
from reconciler.errors import Transient


@command("exec", context_settings={"allow_interspersed_args": False})
@click.option(
    "--timeout", type=DURATION, default="60s", show_default=True, metavar="D", help="Give up after this long."
)
@click.argument("address")
@click.argument("argv", nargs=-1, required=True, metavar="-- CMD [ARG]...")
def exec_command(call: Invocation, *, address: str, argv: tuple[str, ...], timeout: float) -> int:
    """Run CMD in the sandbox ADDRESS.

    The exit code is that of CMD. Its standard input is empty.
    """
    from reconciler.engine import inspect

    words = argv[1:] if argv[0] == "--" else argv
    if not words:
        raise click.UsageError("There is no command after `--`.", click.get_current_context())
    with opened(call, secrets=False) as context:
        backend, info = inspect.locate(context, address)
        try:
            result = backend.exec(info, words, timeout=timeout)
        except Transient as error:
            if "did not end within" in error.message:
                error.hint = error.hint or "give it longer with `--timeout 5m`"
            raise
    terminal = call.terminal
    if call.settings.json:
        told = {"exit_code": result.exit_code, "stdout": result.stdout, "stderr": result.stderr}
        terminal.line(line({"type": "exec", "address": address, **told}))
    else:
        for stream, text in ((terminal.out, result.stdout), (terminal.err, result.stderr)):
            stream.write(_safe(text) if stream.isatty() else text)
            stream.flush()
    return result.exit_code


def _safe(text: str) -> str:
    """Lines and tabs stay, what else could steer the terminal does not."""
    return "\n".join("\t".join(map(harmless, part.split("\t"))) for part in text.split("\n"))
