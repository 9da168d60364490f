"""`reconciler validate`: schema, references and backend support, without asking a backend."""

from __future__ import annotations

from reconciler.cli import failure
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.style import harmless
from reconciler.cli.views.values import counted
from reconciler.cli.wiring import opened
from reconciler.model.diagnostic import Severity


@command("validate")
def validate(call: Invocation) -> int:
    """Check the configuration: schema, references, and what the backends can do.

    No backend is asked and nothing is written.
    """
    from reconciler.engine import survey

    if call.settings.json:
        call.events.begin()
    with opened(call, secrets=False, keys=False) as context:
        found = survey.validate(context)
        failure.show_diagnostics(found, call)
        errors = sum(diagnostic.severity is Severity.ERROR for diagnostic in found)
        if errors:
            call.note(f"{counted(errors, 'error')}.")
            return ExitCode.INVALID
        desired = context.desired
        if not call.settings.json:
            what = counted(len(desired.sandboxes), "sandbox", "sandboxes")
            call.terminal.line(f"The configuration is valid: stack {harmless(desired.stack)}, {what}.")
    return ExitCode.DONE
