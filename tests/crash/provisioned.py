"""A world at a provisioner that runs in this process, so not in the one that is killed: reached over HTTP, and without labels.

What is deleted there goes on dying for an hour, so whatever attaches to it is found out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from reconciler.backends.remote import RemoteSandboxBackend
from reconciler.model.desired import Owner
from reconciler.model.observed import SandboxInfo
from tests.crash.matrix import living
from tests.crash.runs import Runs
from tests.crash.worlds import Body, World
from tests.support.provisioner import Provisioner, provisioner

_GRACE = 3600.0
_PROBES: Mapping[str, Body] = {"true": {"http": "/v1/sandbox"}, "false": {"http": "/nothing"}}


class Provisioned(World):
    """The remote backend. Of a specification it holds little: what the others change by the environment it changes by the
    thread, and asks over HTTP what they ask by a command."""

    name: ClassVar[str] = "remote"
    labels: ClassVar[bool] = False
    defaults: ClassVar[Body] = {"readiness": {"timeout": "20s", "interval": "20ms"}}
    in_place: ClassVar[Body] = {"labels": {"tier": "gold"}}

    def __init__(self, folder: Path, runs: Runs, far: Provisioner) -> None:
        self.far = far
        super().__init__(folder, runs)

    def _open(self) -> RemoteSandboxBackend:
        return RemoteSandboxBackend(self.far.url, str(self.far.key))

    def options(self) -> Body:
        return {"type": "remote", "url": self.far.url, "api_key": {"file": "key"}}

    def declare(self, body: Body) -> None:
        (self.folder / "key").write_text(str(self.far.key))
        sandboxes = {name: _fitted(keys) for name, keys in body["sandboxes"].items()}
        super().declare({**body, "sandboxes": sandboxes})

    def stranger(self, sandbox_id: str, owner: Owner | None = None) -> None:
        super().stranger(sandbox_id)
        self.strangers.add(sandbox_id)

    def kill(self, sandbox_id: str) -> None:
        self.far.kill_pod(sandbox_id)

    def identity(self, info: SandboxInfo) -> str | None:
        """Another pod has another address."""
        return info.sandbox_url

    def astray(self) -> list[str]:
        attached = [name for name in self.far.services if self.far.pods[name].dying is not None]
        leaked = [
            name for name, pod in self.far.pods.items() if pod.dying is None and name not in self.far.services
        ]
        return [
            *(f"{name} is attached to a pod that is dying" for name in attached),
            *(f"{name} is a pod that no service leads to" for name in leaked),
        ]

    def clear(self) -> None:
        self.far.services.clear()
        for name in list(self.far.pods):
            self.far.kill_pod(name)
        self.strangers.clear()
        super().clear()


def _fitted(keys: Mapping[str, Any]) -> dict[str, Any]:
    """What a provisioner can hold of it."""
    fitted = {name: value for name, value in keys.items() if name not in ("environment", "secrets")}
    if "environment" in keys:
        fitted["thread_id"] = f"t-{keys['environment']['V']}"
    readiness = keys.get("readiness", {})
    if "exec" in readiness:
        rest = {name: value for name, value in readiness.items() if name != "exec"}
        fitted["readiness"] = {**rest, **_PROBES[readiness["exec"][0]]}
    return fitted


@contextmanager
def at_a_provisioner(folder: Path, runs: Runs) -> Iterator[Provisioned]:
    with provisioner(grace=_GRACE) as far, living(Provisioned(folder, runs, far)) as world:
        yield world  # type: ignore[misc]
        world.backend.close()
