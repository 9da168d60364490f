"""A folder with a configuration, and the backend that its sandboxes live on: made ready, looked at, broken, cleared away.

What a run does goes through `Runs`, in children; what is looked at here is looked at in this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from reconciler.backends.base import SandboxBackend
from reconciler.backends.memory import MemoryBackend
from reconciler.backends.process import ProcessBackend
from reconciler.model.desired import Desired, Owner, SandboxSpec
from reconciler.model.observed import ObservedSandbox, SandboxInfo
from reconciler.model.plan import Plan
from reconciler.model.state import State
from reconciler.stores.base import LockInfo
from reconciler.stores.file import FileStore
from tests.backends.processes import eventually, left_with
from tests.crash.points import Fault, Point
from tests.crash.runs import Ended, Runs, done, environment
from tests.support.project import Project

STACK = "crash"
LOCAL = "local"  # the one backend's name
OTHERS = Owner(stack="others", lineage="theirs", address="w", generation=1, spec_hash="theirs")  # type: ignore[arg-type]
Body = Mapping[str, Any]  # of a configuration: everything but version, stack and backends
Live = dict[str, ObservedSandbox]  # by sandbox id


@dataclass
class World(ABC):
    """`folder` holds everything of it that is a file. `kept` is what was saved, by path."""

    folder: Path
    runs: Runs
    saved: dict[str, bytes | None] = field(default_factory=dict)

    name: ClassVar[str] = ""  # as the table calls it
    restorable: ClassVar[bool] = False  # whether files are all there is to it
    in_place: ClassVar[Body] = {}  # a change of a sandbox that this backend makes without replacing it
    defaults: ClassVar[Body] = {"readiness": {"timeout": "20s"}}
    company: ClassVar[bool] = True  # whether one that is protected and one that was let go are there as well
    relabels: ClassVar[bool] = True  # whether what moved gets the label of its new address
    labels: ClassVar[bool] = True  # whether its objects carry any

    def __post_init__(self) -> None:
        self.stack = STACK
        self.strangers: set[str] = set()  # made by others, where no label tells
        self.project = Project(self.folder, environ={"TOKEN": "not so secret"})
        self.environ = environment(self.folder, TOKEN="not so secret")
        self.backend = self._open()

    @abstractmethod
    def _open(self) -> SandboxBackend: ...

    @abstractmethod
    def options(self) -> Body:
        """Of the entry in `backends:`."""

    @abstractmethod
    def kill(self, sandbox_id: str) -> None:
        """Its process ends, and it knows nothing of that beforehand."""

    def stranger(self, sandbox_id: str, owner: Owner | None = None) -> None:
        """Something of others, or, without an owner, something that carries no labels at all."""
        self.backend.create(None, sandbox_id, spec=SandboxSpec(owner=owner))

    # -- doing

    def declare(self, body: Body) -> None:
        data = {
            "version": 1,
            "stack": self.stack,
            "backends": {LOCAL: self.options()},
            "defaults": {"backend": LOCAL, **self.defaults},
            **body,
        }
        (self.folder / "sandboxes.yaml").write_text(json.dumps(data, indent=1))

    def run(
        self,
        *argv: str,
        point: Point | None = None,
        nth: int | None = None,
        listens: Fault | None = None,
    ) -> Ended:
        return self.runs(self.folder, *argv, environ=self.environ, point=point, nth=nth, listens=listens)

    def apply(self, body: Body) -> Ended:
        """Declare it, and apply that to its end."""
        self.declare(body)
        return done(self.run("apply", "--auto-approve"), "apply")

    def break_(self, address: str) -> None:
        """Kill the sandbox of an address."""
        self.end(self.recorded(address))

    def end(self, sandbox_id: str) -> None:
        """Kill it, and wait until a look shows that."""
        self.kill(sandbox_id)
        eventually(lambda: self.live()[sandbox_id].phase.is_dead, f"{sandbox_id} to be seen dead")

    # -- looking

    @property
    def store(self) -> FileStore:
        return FileStore(self.stack, path=self.folder / "state", environ={})

    def state(self) -> State:
        found = self.store.read()
        assert found is not None, "there is no state"
        return found

    def recorded(self, address: str) -> str:
        return {str(known): record.sandbox_id for known, record in self.state().sandboxes.items()}[address]

    def lock(self) -> LockInfo | None:
        return self.store.lock_info()

    def desired(self) -> Desired:
        with self.project.opened() as context:
            return context.desired

    def plan(self) -> Plan:
        return self.project.plan()

    def live(self) -> Live:
        """Everything there is, of everybody."""
        return {seen.info.sandbox_id: seen for seen in self.backend.observe()}

    def is_mine(self, seen: ObservedSandbox) -> bool:
        """Whether it is of this stack."""
        if not self.labels:
            return seen.info.sandbox_id not in self.strangers
        return seen.owner is not None and seen.owner.stack == self.stack

    def identity(self, info: SandboxInfo) -> str | None:
        """What another object of the same id would not have."""
        return info.container_id

    def astray(self) -> list[str]:
        """What is wrong with the backend's objects though no look shows it."""
        return []

    def mark(self, sandbox_id: str) -> None:
        """Leave something in its workspace."""
        assert sandbox_id  # most have none

    def is_marked(self, sandbox_id: str) -> bool:
        """Whether that is still there."""
        return True

    def leftovers(self) -> list[str]:
        """Files of writes that were never finished."""
        return [str(path) for path in (self.folder / "state").rglob("*") if ".tmp-" in path.name]

    # -- from run to run

    def save(self) -> None:
        """What `restore` brings back."""
        self.saved = {
            str(path.relative_to(self.folder)): None if path.is_dir() else path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
        }

    def restore(self) -> None:
        self.clear()
        for name, data in self.saved.items():
            path = self.folder / name
            if data is None:
                path.mkdir(mode=0o700)
            else:
                path.write_bytes(data)
                path.chmod(0o600)

    def clear(self) -> None:
        """Nothing of it is left, live or in a file."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class InMemory(World):
    """The memory backend, its world in a file."""

    name = "memory"
    restorable: ClassVar[bool] = True
    in_place: ClassVar[Body] = {"resources": {"cpu": 2}}

    @property
    def file(self) -> Path:
        return self.folder / "world.json"

    def _open(self) -> MemoryBackend:
        return MemoryBackend(path=str(self.file))

    def options(self) -> Body:
        return {"type": "memory", "path": str(self.file)}

    def kill(self, sandbox_id: str) -> None:
        assert isinstance(self.backend, MemoryBackend)
        self.backend.kill(sandbox_id)

    def clear(self) -> None:
        super().clear()
        assert self.backend.observe() == []  # the world was begun anew, and what was read of it forgotten


class OnProcesses(World):
    """The process backend, with a root of its own."""

    name = "process"
    in_place: ClassVar[Body] = {"labels": {"tier": "gold"}}

    @property
    def root(self) -> Path:
        return self.folder / "xdg" / "reconciler" / "process"

    def _open(self) -> ProcessBackend:
        return ProcessBackend(str(self.root), grace=0.5)

    def options(self) -> Body:
        return {"type": "process", "root": str(self.root), "grace": 0.5}

    def kill(self, sandbox_id: str) -> None:
        process = json.loads((self.root / sandbox_id / "process.json").read_text())
        os.kill(process["main"][0], signal.SIGKILL)

    def _mark(self, sandbox_id: str) -> Path:
        return self.root / sandbox_id / "workspace" / "mark"

    def mark(self, sandbox_id: str) -> None:
        self._mark(sandbox_id).write_text("kept")

    def is_marked(self, sandbox_id: str) -> bool:
        return self._mark(sandbox_id).exists()

    def leftovers(self) -> list[str]:
        if not self.root.is_dir():
            return super().leftovers()
        staged = [entry.name for entry in self.root.iterdir() if entry.name.startswith(".new-")]
        rewritten = [str(path) for path in self.root.glob("*/record.json.new")]
        return [*super().leftovers(), *staged, *rewritten]

    def clear(self) -> None:
        """Also shows that the backend's records are all there is: a process that none of them knows fails this."""
        for seen in self.backend.observe():
            self.backend.destroy(seen.info)
        left = left_with(str(self.root))
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes that no record speaks of: {left}"
        self._sweep()
        super().clear()

    def _sweep(self) -> None:
        """What a kill left in the trash goes with the first removal after its age; the rest is the locks' directory."""
        trash = self.root / ".trash"
        if not trash.is_dir():
            return
        for path in trash.iterdir():
            os.utime(path, (time.time() - 7200,) * 2)
        self.backend.create(None, "last", spec=SandboxSpec())
        self.backend.destroy(SandboxInfo("last", ""))
        left = [*trash.iterdir(), *(path for path in self.root.iterdir() if not path.name.startswith("."))]
        assert not left, f"what is never removed: {left}"
