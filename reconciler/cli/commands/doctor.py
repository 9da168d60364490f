"""`reconciler doctor`: every backend and the store, checked, and what to fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.views.checks import Check, checks_text
from reconciler.cli.views.jsonline import line
from reconciler.cli.wiring import keyed, load, store_of
from reconciler.errors import ConfigError, ReconcilerError
from reconciler.model.desired import BackendConfig, Desired

if TYPE_CHECKING:
    from collections.abc import Sequence


@command("doctor")
def doctor(call: Invocation) -> int:
    """Check the configuration, each backend and the store, and say what to fix.

    Exit code 1 when something is not well.
    """
    found = list(_checks(call))
    if call.settings.json:
        told = [
            {"subject": c.subject, "check": c.what, "ok": c.ok, "detail": c.detail, "fix": c.fix}
            for c in found
        ]
        call.terminal.line(line({"reconciler": __version__, "ok": all(c.ok for c in found), "checks": told}))
    else:
        call.terminal.answer(checks_text(found, width=call.terminal.width, style=call.terminal.style))
    return ExitCode.DONE if all(check.ok for check in found) else ExitCode.ERROR


def _checks(call: Invocation) -> Iterator[Check]:
    try:
        desired = load(call).desired
    except ConfigError as error:
        yield Check(
            subject="configuration",
            what="valid",
            ok=False,
            detail=error.message,
            fix="`reconciler validate` shows where",
        )
        yield from _backend(BackendConfig(name="local", type="process"), call, "")
        return
    count = len(desired.sandboxes)
    yield Check(
        subject="configuration", what="valid", ok=True, detail=f"stack {desired.stack}, {count} declared"
    )
    yield from _store(desired, call)
    for name in sorted(desired.backends):
        yield from _backend(desired.backends[name], call, desired.directory)


def _store(desired: Desired, call: Invocation) -> Iterator[Check]:
    try:
        with closing(store_of(desired, call)) as store:
            subject = f"store {store.describe()}"
            answers = store.check()
            yield from _told(subject, answers)
            held = store.lock_info()
            if held is not None and "lock" not in {what for what, _, _ in answers}:
                yield Check(subject=subject, what="lock", ok=True, detail=f"held by {held.holder}")
    except ReconcilerError as error:
        yield _failed(f"store {desired.store.type}", error)


def _backend(config: BackendConfig, call: Invocation, directory: str) -> Iterator[Check]:
    from reconciler.backends.registry import open_backend

    subject = f"backend {config.name} ({config.type})"
    try:
        with closing(open_backend(keyed(config, call, directory))) as backend:
            yield from _told(subject, backend.check())
    except ReconcilerError as error:
        yield _failed(subject, error)
    except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything; the others are checked too
        what = f"its own checks ended with {type(error).__name__}: {error}"
        yield Check(subject=subject, what="check", ok=False, detail=what, fix="this is a bug in the backend")


def _told(subject: str, answers: Sequence[tuple[str, bool, str]]) -> Iterator[Check]:
    for what, ok, told in answers:
        detail, _, fix = told.partition("\n")
        yield Check(subject=subject, what=what, ok=ok, detail=detail, fix=fix)
    if not answers:
        yield Check(subject=subject, what="opens", ok=True, detail="it has no checks of its own")


def _failed(subject: str, error: ReconcilerError) -> Check:
    return Check(subject=subject, what="opens", ok=False, detail=error.message, fix=error.hint)
