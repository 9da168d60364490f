"""The one composition root: from the options to a configuration, an open store, backends and an engine context.

Imports of the floors below happen in here, each in the function that needs it, so that a command pays for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli import failure
from reconciler.cli.terminal import Aside
from reconciler.errors import ConfigError, ReconcilerError, StoreError
from reconciler.model.diagnostic import Diagnostic

if TYPE_CHECKING:
    import click

    from reconciler.cli.options import Invocation
    from reconciler.config.configure import Configuration
    from reconciler.engine.context import Context
    from reconciler.model.desired import BackendConfig, Desired, StoreConfig
    from reconciler.model.event import Event
    from reconciler.stores.base import Store

_SECRET_COMMAND_TIMEOUT = 60.0
_JUDGE_THE_CONFIGURATION = ("validate", "plan", "apply")  # elsewhere a warning about it is in the way


def load(call: Invocation, *, asks: bool = True) -> Configuration:
    """The configuration of this run, expanded; its warnings are said where they are asked for. `asks` False asks nobody for a
    variable, and knows what was answered before. Raises ConfigError."""
    from reconciler.config.configure import configure
    from reconciler.config.readings import Readings
    from reconciler.config.verdicts import Verdicts

    settings = call.settings
    configuration = configure(
        paths=[Path(name) for name in settings.files],
        directory=Path(settings.directory),
        var=settings.var,
        var_files=[Path(settings.path(name)) for name in settings.var_files],
        environ=call.environ,
        answers=call.answers,
        ask=_asker(call) if asks else None,
        verdicts=Verdicts.of(call.environ),
        readings=Readings.of(call.environ),
    )
    if call.operation in _JUDGE_THE_CONFIGURATION:
        failure.show_diagnostics(configuration.warnings, call)
    return configuration


@contextmanager
def opened_store(call: Invocation) -> Iterator[tuple[Desired, Store]]:
    """The configuration and its store, for commands that ask no backend."""
    desired = load(call).desired
    store = store_of(desired, call)
    try:
        yield desired, store
    finally:
        store.close()


def store_of(desired: Desired, call: Invocation) -> Store:
    """The open store of a configuration, its credentials read."""
    return _opened_with(desired.store, call, desired.stack, Path(desired.directory))


def keyed(config: BackendConfig, call: Invocation, directory: str) -> BackendConfig:
    """A backend's configuration with its key read. Raises ConfigError."""
    from reconciler.config.references import with_key

    return with_key(config, directory=directory, environ=call.environ, run=run_secret_command)


def store_elsewhere(call: Invocation, file: str, desired: Desired) -> Store:
    """The open store of the same stack that another file speaks of. Raises ConfigError."""
    from reconciler.config.elsewhere import store_elsewhere

    config, directory = store_elsewhere(
        Path(file), stack=desired.stack, directory=Path(call.settings.directory), environ=call.environ
    )
    return _opened_with(config, call, desired.stack, directory)


def _opened_with(config: StoreConfig, call: Invocation, stack: str, directory: Path) -> Store:
    from reconciler.config.references import with_credentials
    from reconciler.stores.registry import open_store

    known = with_credentials(config, directory=str(directory), environ=call.environ, run=run_secret_command)
    return open_store(known, stack=stack, directory=directory)


@contextmanager
def opened(
    call: Invocation,
    *,
    emit: Callable[[Event], None] | None = None,
    secrets: bool = True,
    writes: bool = False,
    keys: bool = True,
    asks: bool = True,
) -> Iterator[Context]:
    """Everything a workflow needs. `secrets` False leaves them unread, for looks that compare no settings; `keys` False
    those of the backends, for runs that ask none. `writes` makes the key of their digests if there is none yet, which only a
    run that may write is allowed to. `asks` as in `load`."""
    from reconciler.backends.registry import open_backend
    from reconciler.config.inputs import inputs_of
    from reconciler.config.references import without_key
    from reconciler.config.secrets import resolve_secrets
    from reconciler.engine.clock import SystemClock
    from reconciler.engine.context import BackendPool, Context

    with ExitStack() as stack:
        # Whatever a third party's backend prints is no part of our answer, which may be JSON for a program.
        stack.enter_context(redirect_stdout(Aside(call.terminal.err)))
        configuration = load(call, asks=asks)
        stack.enter_context(_illustrated(configuration))
        desired = configuration.desired
        store = store_of(desired, call)
        stack.callback(store.close)
        before = key = store.secret_key(create=False) if secrets else None
        if secrets:
            if key is None:
                _refuse_lost_key(store)
                key = store.secret_key(create=writes if store.keeps_key else _has_secrets(desired))
            desired = resolve_secrets(desired, key=key, environ=call.environ, run=run_secret_command)
        ready = partial(keyed, call=call, directory=desired.directory) if keys else without_key
        backends = BackendPool(desired.backends, lambda config: open_backend(ready(config)))
        stack.callback(backends.close)
        yield Context(
            desired=desired,
            store=store,
            backends=backends,
            clock=SystemClock(),
            emit=emit or _silent,
            illustrate=configuration.illustrate,
            key=(lambda: before) if secrets else partial(store.secret_key, create=False),
            inputs=lambda: inputs_of(configuration, desired, key=key),
        )


@contextmanager
def _illustrated(configuration: Configuration) -> Iterator[None]:
    """What is found to be wrong later has its source lines too."""
    try:
        yield
    except ConfigError as error:
        error.diagnostics = tuple(
            configuration.illustrate(item) if isinstance(item, Diagnostic) else item
            for item in error.diagnostics
        )
        raise


def _has_secrets(desired: Desired) -> bool:
    return any(sandbox.spec.secrets for sandbox in desired.sandboxes.values())


def _refuse_lost_key(store: Store) -> None:
    """Without the key that a state's digests were made with, every secret would look changed."""
    state = store.read()
    digests = sorted(
        record.address
        for record in (state.sandboxes.values() if state else ())
        if any(path.startswith("secrets.") for path in record.spec)
    )
    if digests:
        raise StoreError(
            f"the key of the secrets' digests is gone from {store.describe()}, so nobody can tell whether the "
            f"secrets of {', '.join(digests[:5])} changed",
            hint="bring the key file back, or set RECONCILER_STATE_KEY; to begin with a new key, take the secrets "
            "out, apply, and put them in again",
        )


def run_secret_command(argv: Sequence[str]) -> str:
    """The standard output of a secret's command. Raises OSError or a subprocess error; whoever reports it must not
    quote what the command printed."""
    import subprocess  # only who has such a secret pays for it

    done = subprocess.run(
        list(argv), capture_output=True, text=True, timeout=_SECRET_COMMAND_TIMEOUT, check=True
    )
    return done.stdout


def _asker(call: Invocation) -> Callable[[str, bool], str] | None:
    """How to ask for a variable that nothing sets; None where nobody is there."""
    if not call.terminal.interactive or call.settings.json:
        return None

    def ask(name: str, sensitive: bool) -> str:
        import click

        answer: str = click.prompt(f"variable {name}", hide_input=sensitive, err=True)
        call.answers[name] = answer
        return answer

    return ask


def _silent(event: Event) -> None:
    """For looks, which have nothing to tell while they happen."""


def usage_no_such(what: str, name: str, known: Sequence[str]) -> click.UsageError:
    """The same for a name that the command line alone gets wrong: a usage error."""
    import click

    error = no_such(what, name, known)
    return click.UsageError(f"{error.message} ({error.hint})", ctx=click.get_current_context(silent=True))


def no_such(what: str, name: str, known: Sequence[str]) -> ReconcilerError:
    """An error for a name that is not there, with the closest that is."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif known:
        hint = f"there is: {', '.join(sorted(known)[:20])}"
    else:
        hint = "there is none yet; `reconciler apply` makes them"
    return ReconcilerError(f"there is no {what} {name!r}", hint=hint)
