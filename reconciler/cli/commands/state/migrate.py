"""`reconciler state migrate`: the state moves into the store that the configuration names now."""

from __future__ import annotations

import click

from reconciler.cli.commands.state.edit import DRY_RUN, LOCK_TIMEOUT, teller
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.migration import migration_dict, migration_text
from reconciler.cli.wiring import opened, store_elsewhere


@command("migrate")
@click.option(
    "--from",
    "from_",
    metavar="FILE",
    required=True,
    help="The configuration as it was, or a file with its `state:` alone.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Also when another state, or a newer one, is in the new place: it is replaced.",
)
@DRY_RUN
@LOCK_TIMEOUT
def state_migrate(call: Invocation, *, from_: str, force: bool, dry_run: bool, lock_timeout: float) -> int:
    """Move the state from where FILE says it is into the store of the configuration as it is now.

    Change `state:` first, then move, and commit when that is done:

    \b
    git show HEAD:sandboxes.yaml > old.yaml && reconciler state migrate --from old.yaml

    Versions and the key of the secrets' digests come along where both stores keep them. What is left behind is marked, and
    whoever still works with the old configuration is refused. Broken off anywhere, it is completed by running it again.
    """
    from reconciler.engine.migrate import migrate

    with opened(call, emit=teller(call), secrets=False) as context:
        source = store_elsewhere(call, from_, context.desired)
        try:
            done = migrate(context, source, force=force, lock_timeout=lock_timeout, dry_run=dry_run)
        finally:
            source.close()
    if call.settings.json:
        call.terminal.line(line(migration_dict(done)))
        return ExitCode.DONE
    call.terminal.answer(migration_text(done, width=call.terminal.width))
    if done.written:
        call.note(
            "Next: `reconciler plan` shows the same as before. Commit the configuration: others are refused until then."
        )
    return ExitCode.DONE
