"""`RemoteSandboxBackend`: sandboxes that a provisioner makes, reached over its HTTP API.

Its existence is that of a Service; the Pod behind it may be missing, dying or unreadable. So what looks dead is looked at
again before it counts, what was destroyed is looked for, and what is half there is deleted before it is made again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from reconciler.backends import trust
from reconciler.backends.base import Capabilities, SandboxBackend
from reconciler.backends.remote.capabilities import CAPABILITIES
from reconciler.backends.remote.entries import SANDBOX_ID, listed, sandbox
from reconciler.backends.remote.wire import Wire
from reconciler.errors import BackendError, ConfigError, NotFound, Permanent, Transient
from reconciler.model.desired import MountKind, SandboxSpec, Secret
from reconciler.model.observed import ObservedSandbox, SandboxInfo
from reconciler.transport.pool import Connections

LIST, CREATE, DELETE, GET = 10.0, 30.0, 15.0, 10.0  # seconds, as the seed has them
_SANDBOXES = "/api/sandboxes"
_THREAD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_AGAIN = 0.15  # seconds until what looks dead is looked at again
_GONE_WITHIN = 30.0  # seconds from a DELETE until the sandbox must be gone
_POLLS = (0.05, 1.0)  # seconds between two looks: at first, at most


class RemoteSandboxBackend(SandboxBackend):
    """`url` is the provisioner's root, `api_key` what it knows us by (as text from plain Python). `timeout` in seconds
    takes the place of all four (list 10, create 30, delete 15, get 10). `tls` names `ca_cert`, `client_cert` and
    `client_key`, PEM files. `monotonic` and `sleep` are replaceable.

    Raises ConfigError for options that are wrong. Its sandboxes carry no labels: whose one is, the state knows.
    """

    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(
        self,
        url: str,
        api_key: Secret | str | None = None,
        *,
        timeout: float | None = None,
        tls: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if timeout is not None and not 0 < timeout < 1e6:
            raise ConfigError("`timeout` is no time", hint="write one such as 30s")
        base = trust.address(url)
        context = trust.trust(base, tls)
        self._connections = Connections(base, context=lambda: context)
        self._wire = Wire(
            base=base,
            connections=self._connections,
            api_key=trust.key(api_key),
            monotonic=monotonic,
            sleep=sleep,
        )
        self._timeout = timeout
        self._monotonic = monotonic
        self._sleep = sleep
        self._say: Callable[[str, str], None] = _say_nothing

    # -- the five verbs

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        """What is there under the id already is handed out again if it lives. What is half there, such as a Service
        without its Pod, is deleted first, or the provisioner would leave it as it is."""
        body = _wanted(thread_id, sandbox_id, extra_mounts or [], spec)
        deadline = self._monotonic() + _GONE_WITHIN
        while True:
            timeout = self._within(CREATE)
            reply = self._wire.ask("POST", _SANDBOXES, timeout=timeout, body=body)
            seen = self._confirmed(sandbox(reply.data, sandbox_id))
            if seen is None:
                raise Transient(f"sandbox {sandbox_id} vanished while it was created", retry_after=1.0)
            if not seen.phase.is_dead:
                if not seen.info.sandbox_url:
                    raise Permanent(
                        f"the provisioner created {sandbox_id}, and does not say where: {seen.detail}"
                    )
                return seen.info
            if self._monotonic() >= deadline:
                raise Transient(
                    f"sandbox {sandbox_id} does not come to life: {seen.detail}",
                    retry_after=5.0,
                    hint="look into the provisioner's log",
                )
            self._say(sandbox_id, f"deleting what is left of it ({seen.detail})")
            self.destroy(seen.info)
            self._sleep(_AGAIN)

    def destroy(self, info: SandboxInfo) -> None:
        """Always asked for, also of what seems absent: a Pod whose Service is gone goes by this alone. The provisioner
        answers before it is done, so this looks until it is gone."""
        path = _path(info.sandbox_id)
        self._wire.ask("DELETE", path, timeout=self._within(DELETE), absent=True)
        deadline, pause = self._monotonic() + _GONE_WITHIN, _POLLS[0]
        while self._look(info.sandbox_id) is not None:
            if self._monotonic() + pause >= deadline:
                raise Transient(
                    f"sandbox {info.sandbox_id} is still there {_GONE_WITHIN:g} s after its deletion",
                    retry_after=5.0,
                    hint="look into the provisioner's log",
                )
            self._sleep(pause)
            pause = min(pause * 2, _POLLS[1])

    def is_alive(self, info: SandboxInfo) -> bool:
        return self.discover(info.sandbox_id) is not None

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        seen = self.look(sandbox_id)
        return None if seen is None or seen.phase.is_dead else seen.info

    def list_running(self) -> list[SandboxInfo]:
        return [seen.info for seen in self.observe() if not seen.phase.is_dead]

    # -- looks

    def observe(self) -> Sequence[ObservedSandbox]:
        """Every sandbox of the provisioner, whoever asked for it."""
        reply = self._wire.ask("GET", _SANDBOXES, timeout=self._within(LIST))
        seen = listed(reply.data, self._wire.base)
        if any(one.phase.is_dead for one in seen):
            self._sleep(_AGAIN)
        again = (self._look(one.info.sandbox_id) if one.phase.is_dead else one for one in seen)
        return [one for one in again if one is not None]

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        seen = self._look(sandbox_id)
        return None if seen is None else self._confirmed(seen)

    def _look(self, sandbox_id: str) -> ObservedSandbox | None:
        reply = self._wire.ask("GET", _path(sandbox_id), timeout=self._within(GET), absent=True)
        return None if reply.status == 404 else sandbox(reply.data, sandbox_id)

    def _confirmed(self, seen: ObservedSandbox) -> ObservedSandbox | None:
        """A provisioner whose cluster fails for a moment shows what lives as dead. So that counts when it says it
        twice; otherwise the later look does."""
        if not seen.phase.is_dead:
            return seen
        self._sleep(_AGAIN)
        return self._look(seen.info.sandbox_id)

    # -- optional abilities

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """All that can change in place is what a provisioner cannot enforce: there is nothing to tell it."""
        found = self.discover(info.sandbox_id)
        if found is None:
            raise NotFound(f"sandbox {info.sandbox_id} is not running")
        return found

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._say = tell

    def place(self) -> str:
        return self._wire.base

    def check(self) -> Sequence[tuple[str, bool, str]]:
        try:
            count = len(self.observe())
        except BackendError as error:
            return (("provisioner", False, f"{error.message}\n{error.hint}".rstrip()),)
        counted = f"{count} sandbox{'' if count == 1 else 'es'}"
        return (("provisioner", True, f"{self._wire.base} answers, {counted}"),)

    def close(self) -> None:
        self._connections.close()

    def _within(self, seconds: float) -> float:
        return seconds if self._timeout is None else self._timeout


def _say_nothing(sandbox_id: str, note: str) -> None:
    """Until somebody listens."""


def _path(sandbox_id: str) -> str:
    if SANDBOX_ID.fullmatch(sandbox_id) is None:
        raise Permanent(f"{sandbox_id!r} cannot be a sandbox id", hint="use 1 to 51 of a-z, 0-9 and -")
    return f"{_SANDBOXES}/{sandbox_id}"


def _wanted(
    thread_id: str | None,
    sandbox_id: str,
    extra_mounts: Sequence[tuple[str, str, bool]],
    spec: SandboxSpec | None,
) -> dict[str, object]:
    """The body of a creation: all that a provisioner can be told."""
    _path(sandbox_id)
    if thread_id is None and spec is not None:
        thread_id = spec.thread_id
    if thread_id is not None and _THREAD_ID.fullmatch(thread_id) is None:
        raise Permanent(
            f"a provisioner takes no thread_id such as {thread_id[:80]!r}",
            hint="use 1 to 64 of A-Z, a-z, 0-9, - and _",
        )
    mounts = [
        (mount.source, mount.target, bool(mount.read_only))
        for mount in (() if spec is None else spec.mounts)
        if mount.kind is MountKind.BIND
    ]
    body: dict[str, object] = {"sandbox_id": sandbox_id, "thread_id": thread_id}
    if mounts or extra_mounts:
        body["extra_mounts"] = [
            {"host_path": host, "container_path": container, "read_only": read_only}
            for host, container, read_only in (*mounts, *extra_mounts)
        ]
    return body
