"""`reconciler version`."""

from __future__ import annotations

import platform

from reconciler import __version__
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line


@command("version", config=False)
def version(call: Invocation) -> int:
    """Print the version, and what it runs on."""
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    if call.settings.json:
        call.terminal.line(line({"reconciler": __version__, "python": python, "system": system}))
    else:
        call.terminal.line(f"reconciler {__version__}\nPython {python} on {system}")
    return ExitCode.DONE
