"""`DockerBackend`: the verbs. What a container must look like is `request`'s business, what one is `look`'s.

Only what carries our labels is ever changed or removed, or what the caller names by its container id. Looking
changes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import replace

from reconciler.backends.base import ExecResult, SandboxBackend, Subscription
from reconciler.backends.containers import (
    AIO_IMAGE,
    LOOPBACK,
    NAME_PREFIX,
    SECRETS_DIR,
    checked_id,
    free_labels,
)
from reconciler.backends.docker import commands
from reconciler.backends.docker.capabilities import CAPABILITIES
from reconciler.backends.docker.create import Creation, profile, values
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.find import REMOVING, Containers, runs
from reconciler.backends.docker.images import Images
from reconciler.backends.docker.look import Reader
from reconciler.backends.docker.remove import Removal
from reconciler.backends.docker.request import Order, network_of, update_body
from reconciler.backends.docker.restart import Restart
from reconciler.backends.docker.secret_files import SecretFiles
from reconciler.backends.own_deeds import OwnDeeds
from reconciler.errors import ConfigError, Conflict, NotFound, Permanent, Unsupported
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Mount, SandboxSpec
from reconciler.model.drift import Provenance
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo, Usage

if TYPE_CHECKING:
    from reconciler.backends.docker.events import EngineEvents

_LOOKS_AT_ONCE = 8


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
        self._bind = bind
        self._image = image
        self._images = Images(self._engine, pull)
        self._secrets = SecretFiles(self._engine, secrets_root)
        reader = Reader(
            url_host=url_host,
            prefix=prefix,
            reaches_containers=self._engine.is_local and sys.platform == "linux",
        )
        self._containers = Containers(self._engine, reader, prefix)
        self._removal = Removal(self._engine, round(float(stop_timeout)))
        self._creation = Creation(self._engine, self._containers, self._images, self._secrets, self._removal)
        self._deeds = OwnDeeds()
        self._listening: list[EngineEvents] = []
        self._restart = Restart(self._engine, self._containers, self._secrets, self._removal)

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
            secret_environment=values(spec, "environment"),
            seccomp=profile(spec.security.seccomp),
        )
        with self._deeds.doing(sandbox_id, "create"):
            return self._creation.create(order)

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
        seen = self._containers.find(info.sandbox_id)
        if seen is not None:
            self._refuse_strangers(seen, info)
            with self._deeds.doing(info.sandbox_id, "destroy"):
                self._removal.end(str(seen.info.container_id))
        in_volume = seen is None or (seen.attributes or {}).get(f"mounts.{SECRETS_DIR}.type") == "volume"
        self._secrets.remove(info.sandbox_id, volumes=in_volume)

    def _refuse_strangers(self, seen: ObservedSandbox, info: SandboxInfo) -> None:
        """What does not carry our labels is touched only when the caller names it by its container id."""
        ours = seen.owner is not None or seen.info.container_name != info.sandbox_id
        if not ours and seen.info.container_id != info.container_id:
            raise Conflict(
                f"container {seen.info.container_name} is not ours, so it is left alone",
                hint="it carries no labels of this tool; change or remove it by hand",
            )

    # -- look

    def is_alive(self, info: SandboxInfo) -> bool:
        return runs(self._containers.find(info.sandbox_id))

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        seen = self._containers.find(sandbox_id)
        return seen.info if seen is not None and runs(seen) else None

    def list_running(self) -> list[SandboxInfo]:
        """Those that definitely do not run are left out: one of which that cannot be told stays in."""
        listed = [self._containers.listed(item) for item in self._containers.items()]
        unknown = [seen for seen in listed if seen.phase is Phase.UNKNOWN and seen.detail != REMOVING]
        return [seen.info for seen in listed if seen in unknown or runs(seen)]

    def observe(self) -> Sequence[ObservedSandbox]:
        """One call, and with `pull: always` a few more for each distinct image."""
        items = self._containers.items()
        seen = [self._containers.listed(item) for item in items]
        return self._with_moved_images(items, seen) if self._images.policy == "always" else seen

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        seen = self._containers.find(sandbox_id)
        if seen is None or self._images.policy != "always":
            return seen
        return self._close(str(seen.info.container_id))

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        ids = sorted(sandbox_ids)
        with ThreadPoolExecutor(min(_LOOKS_AT_ONCE, len(ids) or 1)) as pool:
            found = list(pool.map(self.look, ids))
        return [seen for seen in found if seen is not None]

    def _close(self, container: str) -> ObservedSandbox | None:
        """With the image as its tag stands now."""
        try:
            item = self._engine.inspect(container)
        except NotFound:
            return None
        seen = self._containers.read(item)
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
        with self._deeds.doing(info.sandbox_id, "update"):
            return self._update(self._ours(info), spec)

    def _update(self, seen: ObservedSandbox, spec: SandboxSpec) -> SandboxInfo:
        container = str(seen.info.container_id)
        client, astray = self._engine.sdk(), {found.path for found in seen.astray}
        with self._engine.translated():
            if "container.paused" in astray:
                client.unpause(container)
            if "container.name" in astray:
                client.rename(container, self._containers.name(seen.info.sandbox_id))
            if "container.networks" in astray:
                self._reconnect(container, network_of(spec))
        host = self._engine.inspect(container)["HostConfig"]
        changes = update_body(spec, host, self._engine.facts())
        if changes:
            self._engine.update(container, changes)
        return self._containers.inspected(container).info

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        with self._deeds.doing(info.sandbox_id, "restart"):
            return self._restart.restart(self._ours(info), spec)

    def _ours(self, info: SandboxInfo) -> ObservedSandbox:
        seen = self._containers.find(info.sandbox_id)
        if seen is None:
            raise NotFound(f"there is no sandbox {info.sandbox_id}")
        self._refuse_strangers(seen, info)
        return seen

    def _reconnect(self, container: str, wanted: str) -> None:
        """Raises Permanent, not NotFound, for a network that is gone: the sandbox is there."""
        client = self._engine.sdk()
        attached = self._engine.inspect(container)["NetworkSettings"].get("Networks") or {}
        for name in sorted(set(attached) - {wanted}):
            client.disconnect_container_from_network(container, name, force=True)
        if wanted in attached:
            return
        try:
            with self._engine.translated():
                client.connect_container_to_network(container, wanted)
        except NotFound as error:
            if "network" not in error.message.lower():
                raise
            raise Permanent(error.message, hint=f"`docker network create {wanted}`") from error

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        return commands.logs(self._engine, self._container(info), tail=tail, follow=follow)

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        return commands.run(self._engine, self._container(info, running=True), command, timeout)

    def usage(self, info: SandboxInfo) -> Usage | None:
        return commands.usage(self._engine, info.container_id or self._container(info, running=True))

    def _container(self, info: SandboxInfo, *, running: bool = False) -> str:
        seen = self._containers.find(info.sandbox_id)
        if seen is None or (running and not runs(seen)):
            told = f": {seen.detail}" if seen is not None and seen.detail else ""
            raise NotFound(f"sandbox {info.sandbox_id} is not running{told}")
        return str(seen.info.container_id)

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        from reconciler.backends.docker.events import EngineEvents

        self._listening = [one for one in self._listening if not one.is_closed]
        self._listening.append(EngineEvents(self._engine, tell))
        return self._listening[-1]

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        """Three questions, and one more for each that is dead and whose death the engine does not remember."""
        from reconciler.backends.docker.origins import origins

        return origins(self._engine, sandbox_ids, self._deeds)

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._images.tell = tell

    def place(self) -> str:
        """The engine's address; a local socket means another engine on another machine."""
        return f"{self._engine.name} on {_machine()}" if self._engine.is_local else self._engine.name

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return commands.check(self._engine)

    def close(self) -> None:
        for one in self._listening:
            one.close()
        self._engine.close()


def _with_image(seen: ObservedSandbox, image: str | None) -> ObservedSandbox:
    return seen if image is None else replace(seen, attributes={**(seen.attributes or {}), "image": image})


def _machine() -> str:
    """Something that tells this machine from others: its id where it has one, else its name."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()[:12] or os.uname().nodename
    except OSError:
        return os.uname().nodename
