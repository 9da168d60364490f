"""One `Call` becomes one blocking backend verb, and whatever happens becomes an `Answer`.

Runs on worker threads: reads the context, changes nothing of it. No secret leaves here in an error or a log line.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from msgspec import Struct, field

from reconciler.backends.base import ProbeAnswer, SandboxBackend
from reconciler.core.calls import Answer, Call, CallKind
from reconciler.core.readiness import PROBE_TIMEOUT
from reconciler.engine.probe import probe_http, probe_tcp
from reconciler.errors import BackendError, Conflict, NoSpace, ReconcilerError, Transient
from reconciler.model.desired import Desired, ProbeKind, Readiness, SandboxSpec
from reconciler.model.observed import SandboxInfo

LOG_TAIL = 8  # lines shown of a sandbox that did not become ready
_ALIVE_EVERY = 0.1  # seconds between two questions whether a sandbox that does not answer still lives


class Scrubber:
    """Takes every known secret value out of a text, also those that `before` knew: what was made with them lives on."""

    def __init__(self, desired: Desired, *, before: Scrubber | None = None) -> None:
        values = {
            ref.value.reveal()
            for wanted in desired.sandboxes.values()
            for ref in wanted.spec.secrets.values()
            if ref.value is not None
        } | set(before._values if before is not None else ())
        self._values: list[str] = sorted(
            (value for value in values if len(value) >= 4), key=len, reverse=True
        )

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, "•••")
        return text


class Performer(Struct):
    """`spec_of` gives the spec a call's sandbox is made from: references resolved, owner set."""

    backend_of: Callable[[str], SandboxBackend]
    spec_of: Callable[[Call], SandboxSpec]
    scrub: Callable[[str], str]
    _asked: dict[str, float] = field(default_factory=dict)

    def __call__(self, call: Call) -> Answer:
        try:
            return self._perform(call)
        except Transient as error:
            return Answer(
                error=self.scrub(error.message),
                hint=error.hint,
                transient=True,
                retry_after=error.retry_after,
            )
        except ReconcilerError as error:
            return Answer(
                error=self.scrub(error.message), hint=error.hint, no_space=isinstance(error, NoSpace)
            )
        except OSError as error:
            told = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "mend that on this machine, then apply again"
            return Answer(error=self.scrub(told), hint=hint, no_space=full)
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything; a worker must answer
            return Answer(
                error=self.scrub(f"{type(error).__name__}: {error}"), hint="this is a bug in the backend"
            )

    def _perform(self, call: Call) -> Answer:
        backend = self.backend_of(call.backend)
        match call.kind:
            case CallKind.CHECK:
                assert call.info is not None
                return Answer(seen=backend.look(call.info.sandbox_id))
            case CallKind.DESTROY:
                assert call.info is not None
                backend.destroy(call.info)
                return Answer()
            case CallKind.CREATE:
                return Answer(info=self._create(backend, call))
            case CallKind.UPDATE:
                assert call.info is not None
                return Answer(info=backend.update(call.info, self.spec_of(call)))
            case CallKind.RECORD:
                return Answer(info=call.info)
            case CallKind.RESTART:
                assert call.info is not None
                return Answer(info=backend.restart(call.info, self.spec_of(call)))
            case CallKind.PROBE:
                assert call.info is not None
                return self._probe(backend, call, call.info)

    def _create(self, backend: SandboxBackend, call: Call) -> SandboxInfo:
        spec = self.spec_of(call)
        try:
            return backend.create(spec.thread_id, call.step.sandbox_id, None, spec=spec)
        except Conflict as error:
            raise Conflict(
                error.message,
                hint=error.hint or "something else owns that id: rename it, or give this stack another name",
            ) from error

    def _probe(self, backend: SandboxBackend, call: Call, info: SandboxInfo) -> Answer:
        wanted = call.step.desired
        readiness = wanted.spec.readiness if wanted else Readiness()
        if readiness.kind is ProbeKind.NONE:
            return self._look_once(backend, info)
        started = time.monotonic()
        answer = probe(backend, info, readiness, call.timeout)
        if answer.ready:
            return Answer(ready=True)
        dead, detail = answer.dead, answer.detail
        if not dead and self._may_ask(info.sandbox_id, started):
            dead = not backend.is_alive(info)
        if dead:  # what a sandbox answered while it lived does not explain its death
            told = answer.detail if answer.dead else ""
            detail = self._cause_of_death(backend, info, "it stopped before it was ready", told)
        last_chance = call.timeout < PROBE_TIMEOUT and time.monotonic() - started >= call.timeout - 0.02
        tail = self._log_tail(backend, info) if dead or last_chance else ()
        return Answer(dead=dead, detail=self.scrub(detail), log_tail=tail)

    def _look_once(self, backend: SandboxBackend, info: SandboxInfo) -> Answer:
        """Where no readiness is asked for, still running is ready enough."""
        if backend.is_alive(info):
            return Answer(ready=True)
        detail = self._cause_of_death(backend, info, "it stopped right after its creation")
        return Answer(dead=True, detail=self.scrub(detail), log_tail=self._log_tail(backend, info))

    def _may_ask(self, sandbox_id: str, now: float) -> bool:
        if now - self._asked.get(sandbox_id, 0.0) < _ALIVE_EVERY:
            return False
        self._asked[sandbox_id] = now
        return True

    def _cause_of_death(self, backend: SandboxBackend, info: SandboxInfo, what: str, told: str = "") -> str:
        """`what`, and why as far as the backend can still tell: the exit code, or that it is gone altogether; else
        what the probe `told`."""
        try:
            seen = backend.look(info.sandbox_id)
        except BackendError:
            return f"{what}: {told}" if told else what
        if seen is None:
            return f"{what}, and is gone"
        why = seen.detail or told
        return f"{what}: {why}" if why else what

    def _log_tail(self, backend: SandboxBackend, info: SandboxInfo) -> tuple[str, ...]:
        if not backend.capabilities.logs:
            return ()
        try:
            return tuple(self.scrub(line) for line in _last(backend.logs(info, tail=LOG_TAIL)))
        except BackendError as error:
            return (f"(its log cannot be read: {self.scrub(error.message)})",)


def _last(lines: Iterable[str]) -> list[str]:
    return list(lines)[-LOG_TAIL:]


def probe(backend: SandboxBackend, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer:
    """Ask once whether a sandbox is ready: the backend's own way if it has one, else HTTP or TCP."""
    own = backend.probe(info, readiness, timeout)
    if own is not None:
        return own
    match readiness.kind:
        case ProbeKind.NONE:
            return ProbeAnswer(ready=True)
        case ProbeKind.HTTP:
            return probe_http(
                f"{_base_url(info, readiness.port).rstrip('/')}{readiness.path}",
                timeout=timeout,
                expect=readiness.expect,
                headers=backend.request_headers(info),
            )
        case ProbeKind.TCP:
            parts = urlsplit(_base_url(info, readiness.port))
            default = 443 if parts.scheme == "https" else 80
            return probe_tcp(parts.hostname or "127.0.0.1", parts.port or default, timeout=timeout)
        case ProbeKind.EXEC:
            try:
                result = backend.exec(info, readiness.command, timeout=max(timeout, 0.1))
            except BackendError as error:
                # a look that was cut short by the deadline says nothing that the one before did not
                return ProbeAnswer(ready=False, detail=error.message if timeout >= 1 else "")
            return ProbeAnswer(ready=result.exit_code == 0, detail=f"exit code {result.exit_code}")


def _base_url(info: SandboxInfo, port: str | None) -> str:
    """The sandbox's URL, at another of its published ports if one is named."""
    if port is None or port not in info.ports:
        return info.sandbox_url
    parts = urlsplit(info.sandbox_url)
    host = parts.hostname or "127.0.0.1"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{info.ports[port]}"
