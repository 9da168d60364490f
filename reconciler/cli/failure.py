"""How a run that ends badly says so: what, where, and what next; as diagnostics with `--json`.

Never shows a traceback unless `-v` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from reconciler.cli.views.style import RED, harmless, wrapped
from reconciler.cli.views.values import counted
from reconciler.errors import ConfigError, LockHeld, PlanRefused, ReconcilerError
from reconciler.model.diagnostic import Diagnostic, Severity

if TYPE_CHECKING:
    from reconciler.cli.options import Invocation

_UNBROKEN = 100_000
REPORT_AT = "please report it with the command you ran"


def usage(error: click.UsageError, call: Invocation) -> None:
    """The command line itself is wrong."""
    where = error.ctx.command_path if error.ctx else "reconciler"
    message = error.format_message()
    for old, new in (("No such option: ", "There is no option "), ("No such option ", "There is no option ")):
        message = message.replace(old, new)
    message = re.sub(r"\s*\n\s*", " ", message)  # choices come one a line, after tabs
    _say(call, message, f"`{where} --help` shows what there is", code="usage")


def interrupted(call: Invocation) -> None:
    """Ctrl-C where there was nothing to drain."""
    if call.settings.json:
        _say(call, "interrupted", "", code="interrupted")
    else:
        call.terminal.tell("interrupted")


def known(error: ReconcilerError, call: Invocation) -> None:
    """A failure with a name."""
    if isinstance(error, ConfigError) and error.diagnostics:
        found = [item for item in error.diagnostics if isinstance(item, Diagnostic)]
        show_diagnostics(found, call)
        if not call.settings.json:
            wrong = sum(item.severity is Severity.ERROR for item in found)
            call.terminal.tell(f"{counted(wrong, 'error')}; nothing was changed.")
        return
    if isinstance(error, PlanRefused) and not call.settings.json:
        _say(call, "the plan is refused, so nothing was done", "", code=_code(error))
        return
    hint = error.hint
    if isinstance(error, LockHeld) and not hint:
        hint = "wait for it with --lock-timeout, or look with `reconciler lock show`"
    _say(call, error.message, hint, code=_code(error))
    _trace(error, call)


def unknown(error: BaseException, call: Invocation) -> None:
    """A bug of ours."""
    kind = type(error).__name__
    more = "" if call.settings.verbose else "; -v shows the traceback"
    _say(call, f"internal error: {kind}: {error}", f"{REPORT_AT}{more}", code="internal-error")
    _trace(error, call)


def show_diagnostics(diagnostics: Iterable[Diagnostic], call: Invocation) -> None:
    """Problems and remarks, to stderr for people and as events for programs. `-q` leaves only errors."""
    for diagnostic in diagnostics:
        if call.settings.json:
            call.events.diagnostic(diagnostic)
        elif diagnostic.severity is Severity.ERROR or not call.settings.quiet:
            from reconciler.config.diagnostics import render

            call.terminal.tell(render(diagnostic, width=call.terminal.width).rstrip("\n") + "\n")


def _say(call: Invocation, message: str, hint: str, *, code: str) -> None:
    if call.settings.json:
        call.events.diagnostic(Diagnostic(severity=Severity.ERROR, code=code, summary=message, fix=hint))
        return
    terminal = call.terminal
    width = terminal.width if terminal.err.isatty() else _UNBROKEN  # logs are searched, not read in a window
    first, *rest = [harmless(line) for line in message.splitlines()] or [""]
    lines = wrapped(f"error: {first}", width)
    lines[0] = terminal.err_style.paint(lines[0][:6], RED) + lines[0][6:]
    for line in rest:
        lines += wrapped(line, width, indent="  ")
    if hint:
        lines += wrapped(harmless(hint), width, indent="  ")
    terminal.tell("\n".join(lines))


def _code(error: ReconcilerError) -> str:
    """`LockHeld` as `lock-held`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()


def _trace(error: BaseException, call: Invocation) -> None:
    if call.settings.verbose:
        import traceback

        told = "".join(traceback.format_exception(error))
        call.terminal.tell("\n".join(harmless(line) for line in told.rstrip("\n").split("\n")))
