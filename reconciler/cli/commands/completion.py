"""`reconciler completion SHELL`."""

from __future__ import annotations

import click

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command

_VARIABLE = "_RECONCILER_COMPLETE"


@command("completion", config=False)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(call: Invocation, *, shell: str) -> int:
    """Print the completion script of SHELL.

    \b
    bash:  reconciler completion bash > ~/.local/share/bash-completion/completions/reconciler
    zsh:   reconciler completion zsh > "${fpath[1]}/_reconciler"
    fish:  reconciler completion fish > ~/.config/fish/completions/reconciler.fish
    """
    from click.shell_completion import get_completion_class

    from reconciler.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(cli, {}, "reconciler", _VARIABLE)
    call.terminal.answer(made.source_template % made.source_vars())
    return ExitCode.DONE
