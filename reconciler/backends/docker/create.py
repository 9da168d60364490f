"""From an order to a running container: made, given its secrets, started; or found, when it is there already.

What could not be started is taken away again with its secrets. Where the engine's answer is lost nobody knows, so
everything stays, and the next attempt finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from reconciler.backends.containers import SANDBOX_ID, SECRETS_DIR
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.find import Containers
from reconciler.backends.docker.images import Images
from reconciler.backends.docker.look import NEVER_STARTED
from reconciler.backends.docker.remove import Removal
from reconciler.backends.docker.request import Order, body
from reconciler.backends.docker.secret_files import SecretFiles
from reconciler.backends.ownership import check_owner
from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Transient, Unavailable
from reconciler.model.desired import SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

_TRIES = 5  # names and ports that the engine chose may be taken, and free again, while we look
_PORT_TAKEN = ("port is already allocated", "address already in use")


class Creation:
    """Makes the containers of one engine."""

    def __init__(
        self, engine: Engine, containers: Containers, images: Images, secrets: SecretFiles, removal: Removal
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._images = images
        self._secrets = secrets
        self._removal = removal

    def create(self, order: Order) -> SandboxInfo:
        """Raises Conflict when the id, the name or a port that was asked for is somebody else's."""
        self._images.before_create(order.image, order.sandbox_id)
        for _ in range(_TRIES):
            try:
                return self._attempt(order)
            except NotFound as error:
                if "no such container" not in error.message.lower():
                    raise _not_found(error, order.spec) from error
                # somebody removed it between two of our calls
            except Conflict as error:
                if any(words in error.message for words in _PORT_TAKEN):
                    self._refuse_fixed_port(error, order.spec)
                    continue  # the engine chose it, and will choose another
                existing = self._reusable(order)
                if existing is not None:
                    return existing
                # whatever had the name is gone, or was dead and is cleared away; or it is a stranger
                self._refuse_held_name(order.sandbox_id)
        raise Transient(
            f"sandbox {order.sandbox_id} could not be created in {_TRIES} attempts: its name, or each port that the "
            "engine chose, was taken every time",
            retry_after=1.0,
        )

    def _attempt(self, order: Order) -> SandboxInfo:
        """Make and start it. Raises Conflict when its name or a port of it is taken."""
        files = values(order.spec, "file")
        if files:
            user = order.spec.security.user
            order = replace(order, secret_mount=self._secrets.deliver(order.sandbox_id, files, user))
        try:
            container = self._make(order)
        except Unavailable:
            raise  # it may be there all the same, with these files
        except Permanent as error:
            self._secrets.discard(order.secret_mount)
            if self._secrets.unseen(error.message, order.secret_mount):
                return self._attempt(order)  # by volume, this time
            raise
        except BackendError:
            self._secrets.discard(order.secret_mount)
            raise
        return self._start(container, order)

    def _make(self, order: Order) -> str:
        client, name = self._engine.sdk(), self._containers.name(order.sandbox_id)
        for last in (False, True):
            try:
                with self._engine.translated():
                    made = client.create_container_from_config(body(order), name)
                if not isinstance(made, dict) or not isinstance(made.get("Id"), str):
                    raise self._engine.nonsense("a new container without an id")
                return str(made["Id"])
            except NotFound as error:
                if last or "image" not in error.message.lower():
                    raise
                self._images.missing(order.image, order.sandbox_id)
        raise AssertionError("the second attempt returns or raises")

    def _start(self, container: str, order: Order) -> SandboxInfo:
        """What cannot be started is taken away again, so that nothing half made is left behind."""
        client, files = self._engine.sdk(), values(order.spec, "file")
        mount = secret_mount(self._engine.inspect(container)) if files else None
        try:
            if mount is not None:
                self._secrets.fill(container, mount, files, order.spec.security.user)
            with self._engine.translated():
                client.start(container)
        except Unavailable:
            raise  # it may have started all the same: the next attempt finds it
        except BackendError:
            with contextlib.suppress(BackendError):
                self._removal.take_away(container)
                self._secrets.discard(mount)
            raise
        return self._containers.inspected(container).info

    def _reusable(self, order: Order) -> SandboxInfo | None:
        """The container of that id, running, when it is the one that is meant; None when there is none, or a dead
        one of ours, which is cleared away. Raises Conflict for anything else."""
        seen = self._containers.find(order.sandbox_id)
        item = self._item(seen)
        if seen is None or SANDBOX_ID not in _labels(item):
            return None
        container, never_started = str(seen.info.container_id), seen.detail == NEVER_STARTED
        dead = seen.phase.is_dead and not never_started
        check_owner(order.sandbox_id, seen.owner, order.spec.owner, dead=dead)
        if dead:
            self._removal.take_away(container)
            self._secrets.discard(secret_mount(item))
            return None
        try:
            if never_started:
                return self._start(container, order)
            if seen.phase is Phase.PAUSED:
                with self._engine.translated():
                    self._engine.sdk().unpause(container)
            return self._containers.inspected(container).info
        except NotFound:
            return None
        except Permanent:
            if never_started:
                return None  # taken away; made anew it starts, or says why not
            raise

    def _item(self, seen: ObservedSandbox | None) -> Mapping[str, Any]:
        if seen is not None:
            with contextlib.suppress(NotFound):
                return self._engine.inspect(str(seen.info.container_id))
        return {}

    def _refuse_held_name(self, sandbox_id: str) -> None:
        """Raises Conflict when the name we need belongs to a container that is not this sandbox."""
        name = self._containers.name(sandbox_id)
        try:
            found = self._engine.inspect(name)
        except NotFound:
            return
        if _labels(found).get(SANDBOX_ID) != sandbox_id:
            raise Conflict(
                f"the name {name} is taken by a container that is not ours ({found['Id'][:12]})",
                hint=f"rename it (`docker rename {name} …`), or set `prefix:` on the backend",
            )

    def _refuse_fixed_port(self, error: Conflict, spec: SandboxSpec) -> None:
        """Raises Conflict when the port that is taken is one that was asked for."""
        mentioned = {int(number) for number in re.findall(r":(\d+)\b", error.message)}
        taken = next((port for port in spec.ports if port.host in mentioned), None)
        if taken is None:
            return
        held_by = next(
            (
                f"container {str(item['Names'][0]).removeprefix('/')}"
                for item in self._engine.containers()
                if any(port.get("PublicPort") == taken.host for port in item.get("Ports") or ())
            ),
            "another program",
        )
        raise Conflict(
            f"port {taken.host} of {taken.bind}, for `{taken.name}`, is taken by {held_by}",
            hint="free it, choose another, or let the engine choose: `host: auto`",
        ) from error


def values(spec: SandboxSpec, delivery: str) -> dict[str, str]:
    """The secrets that are delivered this way, in clear. Raises Permanent when one was not resolved."""
    found: dict[str, str] = {}
    for name, ref in spec.secrets.items():
        if ref.delivery == delivery:
            if ref.value is None:
                raise Permanent(f"the secret {name} has no value", hint=f"it comes from {ref.source}")
            found[name] = ref.value.reveal()
    return found


def profile(seccomp: str | None) -> str | None:
    """The text of a seccomp profile; None where the specification names none."""
    if seccomp in (None, "default", "unconfined"):
        return None
    path, _, digest = str(seccomp).rpartition("#sha256:")
    path = path or str(seccomp)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Permanent(f"the seccomp profile {path} cannot be read: {error.strerror}") from error
    if "#sha256:" in str(seccomp) and not hashlib.sha256(data).hexdigest().startswith(digest):
        raise Permanent(f"the seccomp profile {path} changed since the plan was made", hint="plan again")
    return data.decode()


def secret_mount(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mount of a container's secrets, as it was asked for."""
    mounts = (item.get("HostConfig") or {}).get("Mounts") or ()
    return next((mount for mount in mounts if mount.get("Target") == SECRETS_DIR), None)


def _labels(item: Mapping[str, Any]) -> Mapping[str, str]:
    return (item.get("Config") or {}).get("Labels") or {}


def _not_found(error: NotFound, spec: SandboxSpec) -> BackendError:
    if "network" in error.message.lower() and spec.network.name:
        return NotFound(
            error.message, hint=f"`docker network create {spec.network.name}`, or fix `network.name`"
        )
    return error
