"""`AppleBackend`: the verbs. What the arguments are is `request`'s business, what an answer means `look`'s.

Only what carries our labels is ever removed, or what the caller names by its container id. Looking changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from msgspec.structs import replace

from reconciler.backends.apple import talk
from reconciler.backends.apple.capabilities import CAPABILITIES
from reconciler.backends.apple.command import INSTALL, START, Command, PortTaken
from reconciler.backends.apple.files import Files, default_root
from reconciler.backends.apple.look import Container, observed, parse
from reconciler.backends.apple.ports import free_ports, refuse_taken
from reconciler.backends.apple.request import Order, check, chosen, words
from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend
from reconciler.backends.containers import (
    AIO_IMAGE,
    LOOPBACK,
    NAME_PREFIX,
    checked_id,
    ended_again,
)
from reconciler.backends.ownership import check_owner
from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Transient, Unavailable, Unsupported
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Mount, ProbeKind, Readiness, SandboxSpec
from reconciler.model.observed import ObservedSandbox, SandboxInfo

_PORT_TRIES = 5  # another program may take a port between our looking and the engine's binding it
_NAME_TRIES = 3  # what has the name may be gone by the time we look at it
_MARGIN = 10.0  # seconds a stop may take beyond what the sandbox is given to end


def _nothing(sandbox_id: str, doing: str) -> None:
    """The default of `tell_progress`."""


class AppleBackend(SandboxBackend):
    """Sandboxes as containers of Apple's `container`, each a virtual machine of its own.

    `binary` is the command, a path or a name on the PATH. `timeout` bounds each call and `create_timeout` one that may
    fetch an image, in seconds; `stop_timeout` is the time a sandbox has to end by itself. `bind` is the address of the
    host to publish a sandbox's URL on, `url_host` the host in that URL where clients need another. `image` is for
    sandboxes that name none, `prefix` begins the containers' names. `root` is where locks and secret files are kept.
    """

    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(
        self,
        binary: str = "container",
        *,
        bind: str = LOOPBACK,
        timeout: float = 120.0,
        create_timeout: float = 900.0,
        stop_timeout: float = 10.0,
        url_host: str | None = None,
        image: str = AIO_IMAGE,
        prefix: str = NAME_PREFIX,
        root: str | None = None,
    ) -> None:
        self._command = Command(os.path.expanduser(binary), float(timeout))
        self._creating = Command(self._command.binary, max(float(create_timeout), float(timeout)))
        self._stop_timeout = round(float(stop_timeout))
        self._bind = bind
        self._url_host = url_host
        self._image = image
        self._prefix = prefix
        self._files = Files(Path(root).expanduser().absolute() if root else default_root())
        self._tell: Callable[[str, str], None] = _nothing

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
        extra = tuple(Mount(source=s, target=t, read_only=r) for s, t, r in extra_mounts or ())
        order = Order(
            name=self._name(checked_id(sandbox_id)),
            sandbox_id=sandbox_id,
            instance=uuid.uuid4().hex,
            spec=spec,
            image=spec.image or self._image,
            bind=self._bind,
            mounts=(*spec.mounts, *extra),
            thread_id=thread_id if thread_id is not None else spec.thread_id,
            secret_environment=_values(spec, "environment"),
        )
        check(order)
        _refuse_unheld(spec)
        with self._files.locked(order.name, self._creating.timeout):
            for _ in range(_NAME_TRIES):
                try:
                    return self._start(order)
                except Conflict as error:
                    if isinstance(error, PortTaken):
                        raise
                    if existing := self._reusable(order):
                        return existing
        raise Transient(f"the name {order.name} is taken and free again by turns", retry_after=1.0)

    def _start(self, order: Order) -> SandboxInfo:
        """Raises Conflict when there is a container of that name."""
        files = _values(order.spec, "file")
        if files:
            order = replace(order, secrets=self._files.place_secrets(order.name, order.instance, files))
        self._tell(order.sandbox_id, "starting, and fetching the image where it is missing")
        try:
            self._run(order)
        except Unavailable:
            raise  # it may be there all the same, with its secrets: the next attempt finds it
        except BaseException:
            self._files.remove_secrets(order.name, order.instance)
            raise
        made = self._inspect(order.name)
        if made is None:
            raise Transient(f"container {order.name} was gone right after its start", retry_after=0.1)
        return self._seen(made).info

    def _run(self, order: Order) -> None:
        ports = order.ports()
        for _ in range(_PORT_TRIES):
            before, tail = words(order, chosen(ports, free_ports(ports)))
            try:
                return self._creating.run(before, tail, order.environment(), order.name)
            except PortTaken as error:
                refuse_taken(ports, error)
                if all(port.host is not None for port in ports):
                    raise
        raise Transient("every host port that was free was taken the moment after", retry_after=1.0)

    def _reusable(self, order: Order) -> SandboxInfo | None:
        """The container of that name, running, when it is the one that is meant; None when there is none any more,
        or a dead one of ours was, which is cleared away. Raises Conflict for anything else."""
        found = self._inspect(order.name)
        if found is None:
            return None
        if not found.ours or found.sandbox_id != order.sandbox_id:
            raise Conflict(
                f"the name {order.name} is taken by a container that is not ours",
                hint=f"remove it (`container delete {order.name}`), or set another `prefix`",
            )
        seen = self._seen(found)
        check_owner(order.sandbox_id, seen.owner, order.spec.owner, dead=seen.phase.is_dead)
        if not seen.phase.is_dead:
            return seen.info
        self._remove(found)
        self._files.remove_secrets(order.name)
        return None

    # -- destroy

    def destroy(self, info: SandboxInfo) -> None:
        name = self._name(info.sandbox_id).replace("/", "-")  # it becomes a path: what is no id stays below
        with self._files.locked(name, self._creating.timeout):
            found = self._find(info.sandbox_id)
            if found is not None:
                _refuse_stranger(found, info)
                self._stop(found)
                self._remove(found)
                self._files.remove_secrets(found.name)
            self._files.remove_secrets(name)

    def _stop(self, container: Container) -> None:
        """A failed stop is a failure: what could not be stopped is not known to be gone."""
        if container.state == "stopped":
            return
        with contextlib.suppress(NotFound):
            self._command.ask(
                "stop",
                "-t",
                str(self._stop_timeout),
                container.name,
                about=container.name,
                timeout=max(self._command.timeout, self._stop_timeout + _MARGIN),
            )

    def _remove(self, container: Container) -> None:
        """And make sure of it. Raises Transient when it is still there."""
        with contextlib.suppress(NotFound):
            self._command.ask("delete", "-f", container.name, about=container.name)
        left = self._inspect(container.name)
        if left is not None and left.identity == container.identity:
            raise Transient(f"container {container.name} is still there after its removal", retry_after=1.0)

    # -- restart

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """Its disk and its ports stay; secret files are made again where they are gone."""
        files = _values(spec, "file")
        with self._files.locked(self._name(info.sandbox_id).replace("/", "-"), self._creating.timeout):
            found = self._existing(info)
            _refuse_stranger(found, info)
            self._stop(found)
            if files:
                self._files.keep_secrets(found.name, found.identity, files, mounted=found.secrets)
            try:
                self._command.ask("start", found.name, about=found.name, timeout=self._creating.timeout)
            except PortTaken as error:
                refuse_taken(spec.ports, error)
                raise
            seen = self._seen(self._existing(info))
        if seen.phase.is_dead:
            raise ended_again(info.sandbox_id, seen.detail, self._last_words(found.name))
        return seen.info

    def _last_words(self, name: str) -> Sequence[str]:
        with contextlib.suppress(BackendError):
            return talk.logs(self._command, name, 3)
        return ()

    # -- look

    def is_alive(self, info: SandboxInfo) -> bool:
        return self.discover(info.sandbox_id) is not None

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        found = self._find(sandbox_id)
        seen = None if found is None else self._seen(found)
        return None if seen is None or seen.phase.is_dead else seen.info

    def list_running(self) -> list[SandboxInfo]:
        return [seen.info for seen in self.observe() if not seen.phase.is_dead]

    def observe(self) -> Sequence[ObservedSandbox]:
        """One call; sorted by id."""
        ours = [container for container in self._listed() if container.ours]
        return [self._seen(container) for container in sorted(ours, key=lambda one: one.sandbox_id)]

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        found = self._find(sandbox_id)
        return None if found is None else self._seen(found)

    def _find(self, sandbox_id: str) -> Container | None:
        """One inspection where it is there; that it is absent is said by a listing alone, which also knows it under
        another prefix, and under its bare name what is not ours."""
        found = self._inspect(self._name(sandbox_id))
        if found is not None and found.ours and found.sandbox_id == sandbox_id:
            return found
        listed = self._listed()
        ours = [one for one in listed if one.ours and one.sandbox_id == sandbox_id]
        strangers = [one for one in listed if not one.ours and one.name == sandbox_id]
        return next(iter(ours + strangers), None)

    def _inspect(self, name: str) -> Container | None:
        try:
            told = self._command.ask("inspect", name, about=name)
        except NotFound:  # since 1.0; up to 0.12 it tells an empty list
            return None
        return next((one for one in parse(told) if one.name == name), None)

    def _listed(self) -> list[Container]:
        return parse(self._command.ask("ls", "-a", "--format", "json"))

    def _seen(self, container: Container) -> ObservedSandbox:
        return observed(container, self._url_host)

    # -- optional abilities

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        if readiness.kind is not ProbeKind.EXEC:
            return None
        try:
            result = self.exec(info, readiness.command, timeout=timeout)
        except NotFound as error:
            return ProbeAnswer(ready=False, dead=True, detail=error.message)
        except Transient as error:
            # a look that was cut short by the deadline says nothing that the one before did not
            return ProbeAnswer(ready=False, detail=error.message if timeout >= 1 else "")
        said = (result.stderr or result.stdout).strip()[-200:]
        return ProbeAnswer(ready=result.exit_code == 0, detail=f"exit code {result.exit_code} {said}".strip())

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """What its first process wrote. `follow` ends when the sandbox does."""
        name = self._existing(info).name
        if follow:
            return talk.follow(self._command, name, tail, lambda: self.is_alive(info))
        return iter(talk.logs(self._command, name, tail))

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        """Raises Transient when it takes longer than `timeout` seconds."""
        name = self._running(info)
        result = talk.execute(self._command, name, command, timeout)
        if result.exit_code != 0 and talk.about_the_container(result):
            self._running(info)  # it may have ended meanwhile, which is another answer
        return result

    def _existing(self, info: SandboxInfo) -> Container:
        found = self._find(info.sandbox_id)
        if found is None:
            raise NotFound(f"there is no sandbox {info.sandbox_id}")
        return found

    def _running(self, info: SandboxInfo) -> str:
        found = self._existing(info)
        if found.state != "running":
            raise NotFound(f"sandbox {info.sandbox_id} is not running: it is {found.state}")
        return found.name

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell

    def place(self) -> str:
        """Each user of each Mac has an engine of their own."""
        node = uuid.getnode()
        told_by_hardware = not node >> 40 & 1
        machine = f" on {node:012x}" if told_by_hardware else ""
        return f"{Path.home()}{machine}"

    def check(self) -> Sequence[tuple[str, bool, str]]:
        path = shutil.which(self._command.binary)
        if path is None:
            other = (
                ""
                if platform.system() == "Darwin"
                else "; it runs on macOS alone, use the docker backend here"
            )
            return (("container command", False, f"{self._command.binary} is not there: {INSTALL}{other}"),)
        return (("container command", True, path), *(self._check_one(*one) for one in _CHECKS))

    def _check_one(self, name: str, arguments: tuple[str, ...]) -> tuple[str, bool, str]:
        try:
            said = self._command.ask(*arguments, timeout=min(self._command.timeout, 15.0))
        except Unavailable as error:
            return (name, False, f"{error.message}: {error.hint}")
        except BackendError as error:
            return (name, False, f"{error.message}: {START}")
        return (name, True, said.strip().split("\n")[0] or "it answers")

    def _name(self, sandbox_id: str) -> str:
        return f"{self._prefix}-{sandbox_id}"


_CHECKS = (("container version", ("--version",)), ("container system", ("system", "status")))


def _values(spec: SandboxSpec, delivery: str) -> dict[str, str]:
    """The secrets that are delivered this way, in clear. Raises Permanent when one was not resolved."""
    found: dict[str, str] = {}
    for name, ref in spec.secrets.items():
        if ref.delivery == delivery:
            if ref.value is None:
                raise Permanent(f"the secret {name} has no value", hint=f"it comes from {ref.source}")
            found[name] = ref.value.reveal()
    return found


def _refuse_stranger(found: Container, info: SandboxInfo) -> None:
    """What does not carry our labels is touched only when the caller names it by its container id."""
    if not found.ours and found.identity != info.container_id:
        raise Conflict(
            f"container {found.name} is not ours, so it is left alone",
            hint="it carries no labels of this tool; remove it by hand",
        )


def _refuse_unheld(spec: SandboxSpec) -> None:
    """Planning says it earlier and better; a plain caller must not get less than asked for either."""
    refused = [
        path
        for path, value in spec.canonical().items()
        if CAPABILITIES.support(path, value) is Support.REFUSED
    ]
    if refused and not spec.unsupported_warn:
        raise Unsupported(
            f"the apple backend cannot hold {', '.join(refused)}",
            hint="leave it out, or use another backend; `unsupported: warn` runs the sandbox without it",
        )
