"""`LocalContainerBackend`: containers on this machine's engine, for plain Python without any YAML.

It chooses the engine, adds what it was given to every creation, and hands everything on. Must never decide anything
about a container itself.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend, Subscription
from reconciler.backends.containers import AIO_IMAGE, NAME_PREFIX
from reconciler.errors import ConfigError
from reconciler.model.desired import Readiness, SandboxSpec
from reconciler.model.drift import Provenance
from reconciler.model.observed import ObservedSandbox, SandboxInfo, Usage

_URL_HOST = ("RECONCILER_SANDBOX_HOST", "DEER_FLOW_SANDBOX_HOST")
_ANSWERS_WITHIN = 5.0  # seconds that Apple's command gets to show that it works


class LocalContainerBackend(SandboxBackend):
    """Sandboxes as containers of Docker, or of Apple's `container`.

    `runtime` is docker, apple or auto: on macOS Apple's `container` when it answers within 5 s, else Docker. `image`
    is for sandboxes that name none, `prefix` begins the containers' names. `mounts` (host path, container path,
    read-only) and `environment` go into every sandbox; what a creation says itself wins. `url_host` is the host in
    the sandboxes' URLs where clients need another than the bound address, by default what RECONCILER_SANDBOX_HOST or
    DEER_FLOW_SANDBOX_HOST say. `options` are the chosen backend's own: `bind`, `timeout` and so on. `system` is the
    name of the operating system, `which` finds a command on the PATH, `environ` is the environment.

    Raises ConfigError for an unknown runtime, ImportError with the name of the package when Docker's is missing.
    """

    def __init__(
        self,
        runtime: str = "auto",
        *,
        image: str = AIO_IMAGE,
        prefix: str = NAME_PREFIX,
        mounts: Sequence[tuple[str, str, bool]] = (),
        environment: Mapping[str, str] | None = None,
        url_host: str | None = None,
        system: str | None = None,
        which: Callable[[str], str | None] = shutil.which,
        environ: Mapping[str, str] = os.environ,
        **options: Any,
    ) -> None:
        if runtime not in ("auto", "docker", "apple"):
            raise ConfigError(f"runtime {runtime!r} is not known", hint="use auto, docker or apple")
        if runtime == "auto":
            runtime = _choose(system or platform.system(), which)
        if url_host is None:
            url_host = next((environ[name] for name in _URL_HOST if environ.get(name)), None)
        self.runtime = runtime
        self._mounts = tuple(mounts)
        self._environment = dict(environment or {})
        self._backend = _open(runtime, {"image": image, "prefix": prefix, "url_host": url_host, **options})
        self.__dict__["capabilities"] = self._backend.capabilities

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        spec = spec or SandboxSpec()
        said = {mount.target for mount in spec.mounts} | {target for _, target, _ in extra_mounts or ()}
        mounts = [mount for mount in self._mounts if mount[1] not in said]
        kept = {name: value for name, value in self._environment.items() if name not in spec.secrets}
        spec = replace(spec, environment={**kept, **spec.environment})
        return self._backend.create(thread_id, sandbox_id, [*mounts, *(extra_mounts or ())], spec=spec)

    def destroy(self, info: SandboxInfo) -> None:
        self._backend.destroy(info)

    def is_alive(self, info: SandboxInfo) -> bool:
        return self._backend.is_alive(info)

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        return self._backend.discover(sandbox_id)

    def list_running(self) -> list[SandboxInfo]:
        return self._backend.list_running()

    def observe(self) -> Sequence[ObservedSandbox]:
        return self._backend.observe()

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        return self._backend.look(sandbox_id)

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        return self._backend.look_closely(sandbox_ids)

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return self._backend.update(info, spec)

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return self._backend.restart(info, spec)

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        return self._backend.probe(info, readiness, timeout)

    def request_headers(self, info: SandboxInfo) -> Mapping[str, str]:
        return self._backend.request_headers(info)

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        return self._backend.logs(info, tail=tail, follow=follow)

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        return self._backend.exec(info, command, timeout=timeout)

    def usage(self, info: SandboxInfo) -> Usage | None:
        return self._backend.usage(info)

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._backend.tell_progress(tell)

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        return self._backend.listen(tell)

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        return self._backend.provenance(sandbox_ids)

    def place(self) -> str:
        return self._backend.place()

    def notes(self) -> Sequence[str]:
        return self._backend.notes()

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return self._backend.check()

    def close(self) -> None:
        self._backend.close()


def _choose(system: str, which: Callable[[str], str | None]) -> str:
    path = which("container") if system == "Darwin" else None
    return "apple" if path and _answers(path) else "docker"


def _answers(path: str) -> bool:
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWERS_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _open(runtime: str, options: Mapping[str, Any]) -> SandboxBackend:
    """Imports the one that is meant. TypeError, with its name, for an option it does not have."""
    made: Callable[..., SandboxBackend]
    if runtime == "apple":
        from reconciler.backends.apple import AppleBackend

        made = AppleBackend
    else:
        from reconciler.backends.docker import DockerBackend

        made = DockerBackend
    return made(**options)
