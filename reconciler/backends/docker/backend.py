"""`DockerBackend`: the verbs. What a container must look like is `request`'s business, what one is `look`'s.

Only what carries our labels is ever changed or removed, or what the caller names by its container id. Looking
changes nothing.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from reconciler.backends.base import ExecResult, SandboxBackend
from reconciler.backends.containers import (
    AIO_IMAGE,
    LOOPBACK,
    MANAGED_BY,
    NAME_PREFIX,
    SANDBOX_ID,
    check_owner,
    checked_id,
    free_labels,
)
from reconciler.backends.docker import commands
from reconciler.backends.docker.capabilities import CAPABILITIES
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.images import Images
from reconciler.backends.docker.look import NEVER_STARTED, Reader
from reconciler.backends.docker.request import Order, body, network_of, update_body
from reconciler.backends.docker.secret_files import SecretFiles
from reconciler.errors import BackendError, ConfigError, Conflict, NotFound, Permanent, Transient, Unsupported
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Mount, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo, Usage

_ALIVE = (Phase.STARTING, Phase.READY, Phase.UNREADY)
_LOOKS_AT_ONCE = 8
_TRIES = 5  # names and ports that the engine chose may be taken, and free again, while we look
_GONE_WITHIN = 30.0  # seconds for a removal that somebody else began


class DockerBackend(SandboxBackend):
    """Sandboxes as containers.

    `host` (or `base_url`, the SDK's word) is the engine's address as in DOCKER_HOST, `context` the name of a Docker
    context; without either the engine that the `docker` command talks to. `tls` is true or the files of a client.
    `timeout` bounds each wait for the engine and `stop_timeout` the time a sandbox has to end by itself, in seconds
    (or as the YAML says them, "30s"). `bind` is the address of the host to publish a sandbox's URL on, `url_host` the
    host in that URL where clients need another. `pull` is missing, always or never. `image` is for sandboxes that
    name none, `prefix` begins the containers' names. `secrets_root` keeps secret files elsewhere than in memory.
    """

    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(
        self,
        host: str | None = None,
        *,
        base_url: str | None = None,
        context: str | None = None,
        tls: bool | Mapping[str, Any] = False,
        timeout: float = 60.0,
        stop_timeout: float = 10.0,
        bind: str = LOOPBACK,
        url_host: str | None = None,
        pull: str = "missing",
        image: str = AIO_IMAGE,
        prefix: str = NAME_PREFIX,
        secrets_root: str | None = None,
    ) -> None:
        if host and base_url and host != base_url:
            raise ConfigError("`host` and `base_url` name two engines", hint="leave one out")
        if pull not in ("missing", "always", "never"):
            raise ConfigError(f"pull {pull!r} is not known", hint="use missing, always or never")
        self._engine = Engine(host or base_url, tls=tls, context=context, timeout=float(timeout))
        self._stop_timeout = round(float(stop_timeout))
        self._bind = bind
        self._image = image
        self._prefix = prefix
        self._images = Images(self._engine, pull)
        self._secrets = SecretFiles(self._engine, secrets_root)
        self._reader = Reader(
            url_host=url_host,
            prefix=prefix,
            reaches_containers=self._engine.is_local and platform.system() == "Linux",
        )

    # -- create

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        spec = spec or SandboxSpec()
        checked_id(sandbox_id)
        self._refuse_unheld(spec)
        extra = tuple(Mount(source=s, target=t, read_only=r) for s, t, r in extra_mounts or ())
        order = Order(
            sandbox_id=sandbox_id,
            spec=spec,
            image=spec.image or self._image,
            bind=self._bind,
            mounts=(*spec.mounts, *extra),
            thread_id=thread_id if thread_id is not None else spec.thread_id,
            secret_environment=_values(spec, "environment"),
            seccomp=_profile(spec.security.seccomp),
        )
        self._images.before_create(order.image, sandbox_id)
        for _ in range(_TRIES):
            try:
                return self._create(order)
            except NotFound as error:
                raise _not_found(error, spec) from error
            except Conflict as error:
                if _chosen_port_taken(error, spec):
                    continue
                existing = self._reusable(order)
                if existing is not None:
                    return existing
                self._refuse_held_name(sandbox_id)  # whatever had it is gone, or was dead and is cleared away
        raise Transient(f"sandbox {sandbox_id} could not be created in {_TRIES} attempts", retry_after=1.0)

    def _create(self, order: Order) -> SandboxInfo:
        """Make and start it. Raises Conflict when its name or a port of it is taken."""
        files = _values(order.spec, "file")
        user, local = order.spec.security.user, self._engine.is_local
        if files and local:
            order = replace(order, secret_mount=self._secrets.place(order.sandbox_id, files, user))
        elif files:
            order = replace(order, secret_mount=self._secrets.volume(order.sandbox_id))
        try:
            container = self._make(order)
        except Permanent:
            if order.secret_mount is not None and local:
                self._secrets.discard(order.secret_mount)
            raise
        if files and not local:
            self._secrets.fill(container, files, user)
        return self._start(container)

    def _make(self, order: Order) -> str:
        client, name = self._engine.sdk(), self._name(order.sandbox_id)
        for last in (False, True):
            try:
                with self._engine.translated():
                    return str(client.create_container_from_config(body(order), name)["Id"])
            except NotFound as error:
                if last or "image" not in error.message.lower():
                    raise
                self._images.missing(order.image, order.sandbox_id)
        raise AssertionError("the second attempt returns or raises")

    def _start(self, container: str) -> SandboxInfo:
        """What cannot be started is taken away again, so that nothing half made is left behind."""
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.start(container)
        except Transient:
            raise  # it may have started all the same: the next attempt finds it
        except BackendError:
            with contextlib.suppress(BackendError), self._engine.translated():
                client.remove_container(container, v=True, force=True)
            raise
        return self._reader.inspected(self._engine.inspect(container)).info

    def _reusable(self, order: Order) -> SandboxInfo | None:
        """The container of that id, running, when it is the one that is meant; None when there is none, or a dead
        one of ours, which is cleared away. Raises Conflict for anything else."""
        seen = self._find(order.sandbox_id)
        if seen is None or SANDBOX_ID not in self._labels(seen):
            return None
        container, never_started = str(seen.info.container_id), seen.detail == NEVER_STARTED
        dead = seen.phase.is_dead and not never_started
        check_owner(order.sandbox_id, seen.owner, order.spec.owner, dead=dead)
        if dead:
            self._remove(container)
            return None
        if seen.phase is Phase.PAUSED:
            with self._engine.translated():
                self._engine.sdk().unpause(container)
        try:
            return self._start(container) if never_started else self._inspected(container).info
        except NotFound:
            return None

    def _labels(self, seen: ObservedSandbox) -> Mapping[str, str]:
        try:
            return self._engine.inspect(str(seen.info.container_id))["Config"].get("Labels") or {}
        except NotFound:
            return {}

    def _refuse_held_name(self, sandbox_id: str) -> None:
        """Raises Conflict when the name we need belongs to a container that is not this sandbox."""
        name = self._name(sandbox_id)
        try:
            found = self._engine.inspect(name)
        except NotFound:
            return
        if (found["Config"].get("Labels") or {}).get(SANDBOX_ID) != sandbox_id:
            raise Conflict(
                f"the name {name} is taken by a container that is not ours ({found['Id'][:12]})",
                hint=f"rename it (`docker rename {name} …`), or set `prefix:` on the backend",
            )

    def _refuse_unheld(self, spec: SandboxSpec) -> None:
        """Planning says it earlier and better; a plain caller must not get less than asked for either."""
        refused = [
            path
            for path, value in spec.canonical().items()
            if CAPABILITIES.support(path, value) is Support.REFUSED
        ]
        if refused and not spec.unsupported_warn:
            raise Unsupported(
                f"the docker backend cannot hold {', '.join(refused)}",
                hint="leave it out, or use another backend; `unsupported: warn` runs the sandbox without it",
            )
        foreign = set(spec.labels) - set(free_labels(spec.labels))
        if foreign:
            raise Permanent(
                f"labels {', '.join(sorted(foreign))} are this tool's own", hint="use other names"
            )

    # -- destroy

    def destroy(self, info: SandboxInfo) -> None:
        seen = self._find(info.sandbox_id)
        if seen is not None:
            container = str(seen.info.container_id)
            self._refuse_strangers(seen, info)
            self._stop(container)
            self._remove(container)
            self._verify_gone(container)
        self._secrets.remove(info.sandbox_id)
        if not self._engine.is_local:
            self._secrets.remove_volume(info.sandbox_id)

    def _refuse_strangers(self, seen: ObservedSandbox, info: SandboxInfo) -> None:
        """What does not carry our labels is touched only when the caller names it by its container id."""
        ours = seen.owner is not None or seen.info.container_name != info.sandbox_id
        if not ours and seen.info.container_id != info.container_id:
            raise Conflict(
                f"container {seen.info.container_name} is not ours, so it is left alone",
                hint="it carries no labels of this tool; change or remove it by hand",
            )

    def _stop(self, container: str) -> None:
        """It may end by itself first; what ignores that is ended by the engine when its time is over."""
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.stop(container, timeout=self._stop_timeout)
        except NotFound:
            return
        except Permanent as error:
            if "paused" not in error.message.lower() and "not running" not in error.message.lower():
                raise

    def _remove(self, container: str) -> None:
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.remove_container(container, v=True, force=True)
        except NotFound:
            return
        except Conflict as error:
            if "already in progress" not in error.message:
                raise
            self._verify_gone(container)

    def _verify_gone(self, container: str) -> None:
        """Raises Transient when it is still there."""
        deadline = time.monotonic() + _GONE_WITHIN
        while True:
            try:
                item = self._engine.inspect(container)
            except NotFound:
                return
            removing = item["State"].get("Status") == "removing"
            if not removing or time.monotonic() > deadline:
                raise Transient(
                    f"container {container[:12]} is still there after its removal", retry_after=1.0
                )
            time.sleep(0.05)

    # -- look

    def is_alive(self, info: SandboxInfo) -> bool:
        seen = self._find(info.sandbox_id)
        return seen is not None and seen.phase in _ALIVE

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        seen = self._find(sandbox_id)
        return seen.info if seen is not None and seen.phase in _ALIVE else None

    def list_running(self) -> list[SandboxInfo]:
        return [seen.info for seen in self._listed() if seen.phase in _ALIVE]

    def observe(self) -> Sequence[ObservedSandbox]:
        """One call, and with `pull: always` a few more for each distinct image."""
        items = self._items()
        seen = [self._reader.listed(item) for item in items]
        return self._with_moved_images(items, seen) if self._images.policy == "always" else seen

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        seen = self._find(sandbox_id)
        if seen is None or self._images.policy != "always":
            return seen
        return self._close(str(seen.info.container_id))

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        ids = sorted(sandbox_ids)
        with ThreadPoolExecutor(min(_LOOKS_AT_ONCE, len(ids) or 1)) as pool:
            found = list(pool.map(self.look, ids))
        return [seen for seen in found if seen is not None]

    def _items(self) -> list[dict[str, Any]]:
        return sorted(self._engine.containers(MANAGED_BY), key=lambda item: str(item["Names"]))

    def _listed(self) -> list[ObservedSandbox]:
        return [self._reader.listed(item) for item in self._items()]

    def _inspected(self, container: str) -> ObservedSandbox:
        return self._reader.inspected(self._engine.inspect(container))

    def _find(self, sandbox_id: str) -> ObservedSandbox | None:
        """By our name for it, which is one call; by its label, should somebody have renamed it; or by the engine's
        own name for it, which is somebody else's container."""
        for name in (self._name(sandbox_id), None, sandbox_id):
            try:
                if name is None:
                    for item in self._engine.containers(f"{SANDBOX_ID}={sandbox_id}"):
                        return self._inspected(item["Id"])
                elif name:
                    seen = self._inspected(name)
                    if seen.info.container_name == name and seen.info.sandbox_id == sandbox_id:
                        return seen
            except NotFound:
                continue
        return None

    def _close(self, container: str) -> ObservedSandbox | None:
        """With the image as its tag stands now."""
        try:
            item = self._engine.inspect(container)
        except NotFound:
            return None
        seen = self._reader.inspected(item)
        pair = (str(item["Config"].get("Image")), str(item["Image"]))
        return _with_image(seen, self._images.moved([pair]).get(pair))

    def _with_moved_images(
        self, items: Sequence[Mapping[str, Any]], seen: Sequence[ObservedSandbox]
    ) -> list[ObservedSandbox]:
        pairs = [(str(item["Image"]), str(item["ImageID"])) for item in items]
        moved = self._images.moved(pairs)
        return [_with_image(one, moved.get(pair)) for one, pair in zip(seen, pairs, strict=True)]

    # -- optional abilities

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """Limits and restart policy; and puts back the name, the network and the running state."""
        seen = self._find(info.sandbox_id)
        if seen is None:
            raise NotFound(f"there is no sandbox {info.sandbox_id}")
        container = str(seen.info.container_id)
        self._refuse_strangers(seen, info)
        client, astray = self._engine.sdk(), {found.path for found in seen.astray}
        with self._engine.translated():
            if "container.paused" in astray:
                client.unpause(container)
            if "container.name" in astray:
                client.rename(container, self._name(info.sandbox_id))
            if "container.networks" in astray:
                self._reconnect(container, network_of(spec))
        host = self._engine.inspect(container)["HostConfig"]
        changes = update_body(spec, host, self._engine.facts())
        if changes:
            self._engine.update(container, changes)
        return self._inspected(container).info

    def _reconnect(self, container: str, wanted: str) -> None:
        client = self._engine.sdk()
        attached = self._engine.inspect(container)["NetworkSettings"].get("Networks") or {}
        for name in sorted(set(attached) - {wanted}):
            client.disconnect_container_from_network(container, name, force=True)
        if wanted not in attached:
            client.connect_container_to_network(container, wanted)

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        return commands.logs(self._engine, self._container(info), tail=tail, follow=follow)

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        return commands.run(self._engine, self._container(info, running=True), command, timeout)

    def usage(self, info: SandboxInfo) -> Usage | None:
        return commands.usage(self._engine, info.container_id or self._container(info, running=True))

    def _container(self, info: SandboxInfo, *, running: bool = False) -> str:
        seen = self._find(info.sandbox_id)
        if seen is None or (running and seen.phase not in _ALIVE):
            told = f": {seen.detail}" if seen is not None and seen.detail else ""
            raise NotFound(f"sandbox {info.sandbox_id} is not running{told}")
        return str(seen.info.container_id)

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._images.tell = tell

    def place(self) -> str:
        """The engine's address; a local socket means another engine on another machine."""
        return f"{self._engine.name} on {_machine()}" if self._engine.is_local else self._engine.name

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return commands.check(self._engine)

    def close(self) -> None:
        self._engine.close()

    def _name(self, sandbox_id: str) -> str:
        return f"{self._prefix}-{sandbox_id}"


def _values(spec: SandboxSpec, delivery: str) -> dict[str, str]:
    """The secrets that are delivered this way, in clear. Raises Permanent when one was not resolved."""
    found: dict[str, str] = {}
    for name, ref in spec.secrets.items():
        if ref.delivery == delivery:
            if ref.value is None:
                raise Permanent(f"the secret {name} has no value", hint=f"it comes from {ref.source}")
            found[name] = ref.value.reveal()
    return found


def _profile(seccomp: str | None) -> str | None:
    """The text of a seccomp profile; None where the specification names none."""
    if seccomp in (None, "default", "unconfined"):
        return None
    path = str(seccomp).partition("#")[0]
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise Permanent(f"the seccomp profile {path} cannot be read: {error.strerror}") from error


def _not_found(error: NotFound, spec: SandboxSpec) -> BackendError:
    if "network" in error.message.lower() and spec.network.name:
        return NotFound(
            error.message, hint=f"`docker network create {spec.network.name}`, or fix `network.name`"
        )
    return error


def _chosen_port_taken(error: Conflict, spec: SandboxSpec) -> bool:
    taken = "already allocated" in error.message or "already in use" in error.message
    return taken and "name" not in error.message and all(port.host is None for port in spec.ports)


def _with_image(seen: ObservedSandbox, image: str | None) -> ObservedSandbox:
    return seen if image is None else replace(seen, attributes={**(seen.attributes or {}), "image": image})


def _machine() -> str:
    """Something that tells this machine from others: its id where it has one, else its name."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()[:12] or platform.node()
    except OSError:
        return platform.node()
