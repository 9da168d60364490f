"""`SandboxBackend`: the seed's five verbs, and optional abilities with defaults built on those five alone.

Rules for every backend: a failure raises from the `BackendError` tree and is never `[]`, `None` or `False`;
observing changes nothing; every call has a timeout; only what carries our labels is ever touched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import ClassVar, Protocol

from msgspec import Struct

from reconciler.errors import Unsupported
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Readiness, SandboxSpec
from reconciler.model.drift import Provenance
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo, Usage

__all__ = ["Capabilities", "ExecResult", "ProbeAnswer", "SandboxBackend", "Subscription", "Support"]


class ExecResult(Struct, frozen=True, kw_only=True):
    """`exit_code` as the command left it; output decoded as UTF-8 with replacement."""

    exit_code: int
    stdout: str
    stderr: str = ""


class ProbeAnswer(Struct, frozen=True, kw_only=True):
    """One look at readiness. `dead` means it will never answer: stop waiting at once."""

    ready: bool
    dead: bool = False
    detail: str = ""


class Subscription(Protocol):
    """What `listen` gives. After `close` has returned nothing is told any more; it may be called twice."""

    def close(self) -> None: ...


class SandboxBackend(ABC):
    """Where sandboxes live. The five verbs keep the seed's signatures; `spec` is ours and optional."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "mounts": Support.ENFORCED,
            "mounts.*.type": Support.REFUSED,  # anything but a path of the host
            "thread_id": Support.ENFORCED,
        },
        owns=False,
    )

    @abstractmethod
    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        """Start a sandbox and return as soon as it exists; readiness is the engine's business.

        `thread_id` None is anonymous. `extra_mounts` are (host_path, container_path, read_only), in addition to
        `spec.mounts`. `spec.owner` becomes labels on the object. Idempotent for an object with the same id and
        equal owner labels, spec hash included; raises Conflict when the id is taken by anything else.
        """

    @abstractmethod
    def destroy(self, info: SandboxInfo) -> None:
        """Remove it and everything it holds; returns only when it is verifiably gone. Absent is success."""

    @abstractmethod
    def is_alive(self, info: SandboxInfo) -> bool:
        """False only for a definite "not there" or "not running"; whatever else fails raises."""

    @abstractmethod
    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        """The running sandbox of that id, from any process; None only when it is definitely not running."""

    def list_running(self) -> list[SandboxInfo]:
        """Every running sandbox this backend manages. The default suits backends that manage no lifecycle."""
        return []

    def observe(self) -> Sequence[ObservedSandbox]:
        """Every sandbox we manage here, dead ones too, in one call to the engine. Raises if any part is unknown."""
        return [ObservedSandbox(info=info) for info in self.list_running()]

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        """One sandbox as `observe` would show it, with every attribute that can be read back; None only when it is
        definitely absent. Also finds what the engine knows by that very name though we did not make it; that has no
        owner."""
        info = self.discover(sandbox_id)
        return None if info is None else ObservedSandbox(info=info, phase=Phase.STARTING)

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        """`look` at several, those that are gone left out: what it takes to see the fields of
        `capabilities.unlisted`."""
        found = [self.look(sandbox_id) for sandbox_id in sandbox_ids]
        return [seen for seen in found if seen is not None]

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """Change in place the fields of `capabilities.updatable`, labels of ownership included."""
        raise Unsupported(f"{type(self).__name__} cannot change a running sandbox")

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        """Start again what is there but does not run, or does not answer; it is stopped first if it runs. Everything it
        holds (disk, id, labels, key) stays. Its connection details come back: the ports may be others.

        `spec` is what it was made from, with its secrets' values, for what does not survive a stop. Raises NotFound
        when it is absent, and another error when it cannot be started: then it is still there, stopped.
        """
        raise Unsupported(f"{type(self).__name__} cannot restart a sandbox")

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        """The backend's own way to tell readiness (exec probes, engine health); None leaves it to HTTP or TCP."""
        return None

    def request_headers(self, info: SandboxInfo) -> Mapping[str, str]:
        """Headers that requests to this sandbox's URL need, such as its API key. Never logged."""
        return {}

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Lines without their newline, oldest first."""
        raise Unsupported(f"{type(self).__name__} keeps no logs")

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        """Run a command inside. Raises NotFound when the sandbox is not running."""
        raise Unsupported(f"{type(self).__name__} cannot run commands")

    def usage(self, info: SandboxInfo) -> Usage | None:
        """What it takes right now; None where that cannot be told. Raises NotFound when it is not running."""
        return None

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:  # noqa: B027 - most verbs are quick
        """From now on call `tell(sandbox id, what is being done)` while a verb takes long, from any thread."""

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        """From now on call `tell(sandbox id)` when something may have happened to a sandbox of ours, from any thread; "" is
        any of them. For backends with `capabilities.events`.

        A hint to look, never the truth: it may come late, twice or for nothing, and what was missed is found by the
        next look. A stream that breaks is taken up again by itself, with growing pauses; then "" is told, for what
        happened in between. Raises when it cannot even begin, at once and without waiting.
        """
        raise Unsupported(f"{type(self).__name__} tells no events")

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        """How these, which are gone, ended or not as they were made, came to be so, by sandbox id: what is not known is left
        out. Asked only when something drifted, with as few questions to the engine as will do. Raises nothing that
        matters: who asks goes on without."""
        return {}

    def place(self) -> str:
        """Where its sandboxes are kept, as far as two runs on different terms could disagree about it; "" if they
        cannot. A state remembers it, so that looking in the wrong place is not taken for absence."""
        return ""

    def notes(self) -> Sequence[str]:
        """What a user of this backend must know on this machine, one sentence each; a plan says it once."""
        return ()

    def check(self) -> Sequence[tuple[str, bool, str]]:
        """For `doctor`: (what was checked, is it well, detail). What to do about it may follow on a second line, where
        a command to run stays whole. Raises nothing."""
        return ()

    def close(self) -> None:  # noqa: B027 - most backends hold nothing
        """Release connections. The sandboxes stay."""
