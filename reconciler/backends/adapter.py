"""Presents a backend written against the seed's contract alone (five verbs, no `spec`) as a `SandboxBackend`.

Adds no ability that is not there: such a backend cannot label its objects, so ownership rests on recorded ids. What
it raises becomes one of our errors, chained; nothing is swallowed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from reconciler.backends.base import Capabilities, SandboxBackend, Support
from reconciler.errors import Permanent, ReconcilerError, Transient, Unavailable, Unsupported
from reconciler.model.desired import MountKind, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

VERBS = ("create", "destroy", "is_alive", "discover", "list_running")
_FIELDS = ("sandbox_id", "sandbox_url", "container_name", "container_id", "created_at", "ports")


def presented(backend: object) -> SandboxBackend:
    """`backend` itself when it knows all of our contract, else an adapter around it. Raises Permanent, naming the
    missing ones, for an object without the five verbs."""
    missing = [verb for verb in VERBS if not callable(getattr(backend, verb, None))]
    if missing:
        raise Permanent(
            f"{type(backend).__qualname__} is no sandbox backend: it lacks {', '.join(missing)}",
            hint=f"a backend has the methods {', '.join(VERBS)}",
        )
    if isinstance(backend, SandboxBackend) and takes_spec(backend):
        return backend
    return SeedAdapter(backend)


def takes_spec(backend: Any) -> bool:
    parameters = inspect.signature(backend.create).parameters.values()
    return any(p.name == "spec" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


class SeedAdapter(SandboxBackend):
    """The five verbs of `backend`, its answers and errors in our types."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._takes_spec = takes_spec(backend)
        declared = getattr(backend, "capabilities", None)
        if isinstance(declared, Capabilities):
            # Five verbs have no word for either.
            self.__dict__["capabilities"] = replace(declared, restarts=False, events=False)
        else:
            self.__dict__["capabilities"] = Capabilities(
                fields={
                    "mounts": Support.ENFORCED,
                    "mounts.*.type": Support.REFUSED,
                    "thread_id": Support.ENFORCED,
                    "image": Support.NOTED,
                    "labels": Support.NOTED,
                },
                owns=False,
            )

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        binds = [] if spec is None else [m for m in spec.mounts if m.kind is MountKind.BIND]
        declared = [(m.source, m.target, m.read_only) for m in binds]
        mounts = [*declared, *(extra_mounts or ())]
        if thread_id is None and spec is not None:
            thread_id = spec.thread_id
        with self._translated("create"):
            if self._takes_spec:
                return _ours(self._backend.create(thread_id, sandbox_id, mounts or None, spec=spec))
            return _ours(self._backend.create(thread_id, sandbox_id, mounts or None))

    def destroy(self, info: SandboxInfo) -> None:
        """Asks afterwards whether it is gone: a stop that failed quietly must not count as done."""
        with self._translated("destroy"):
            self._backend.destroy(info)
            gone = not self._backend.is_alive(info)
        if not gone:
            raise Transient(f"sandbox {info.sandbox_id} is still alive after destroy", retry_after=1.0)

    def is_alive(self, info: SandboxInfo) -> bool:
        with self._translated("is_alive"):
            return bool(self._backend.is_alive(info))

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        with self._translated("discover"):
            found = self._backend.discover(sandbox_id)
            return None if found is None else _ours(found)

    def list_running(self) -> list[SandboxInfo]:
        with self._translated("list_running"):
            return sorted(map(_ours, self._backend.list_running()), key=lambda info: info.sandbox_id)

    def observe(self) -> Sequence[ObservedSandbox]:
        return [ObservedSandbox(info=info, phase=Phase.STARTING) for info in self.list_running()]

    def check(self) -> Sequence[tuple[str, bool, str]]:
        """All it can be asked without changing anything is what runs."""
        try:
            return (("listing", True, f"{len(self.list_running())} running"),)
        except ReconcilerError as error:
            return (("listing", False, error.message),)

    def close(self) -> None:
        close = getattr(self._backend, "close", None)
        if callable(close):
            with self._translated("close"):
                close()

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except ReconcilerError:
            raise
        except NotImplementedError as error:
            raise Unsupported(f"{self._name} cannot {verb}: {error}") from error
        except Exception as error:
            message = f"{self._name}.{verb}: {type(error).__name__}: {error}"
            if _is_about_reaching(error):
                raise Unavailable(message, hint="check that what it talks to is up") from error
            raise Permanent(message) from error

    @property
    def _name(self) -> str:
        return type(self._backend).__qualname__


def _is_about_reaching(error: Exception) -> bool:
    """OSError covers sockets and requests; other clients' classes say it in their names."""
    names = " ".join(kind.__name__.lower() for kind in type(error).__mro__)
    return isinstance(error, OSError) or any(
        word in names for word in ("timeout", "connect", "transporterror")
    )


def _ours(info: Any) -> SandboxInfo:
    """Their `SandboxInfo` is another class with the same fields, or a mapping of them."""
    if isinstance(info, SandboxInfo):
        return info
    data = info if isinstance(info, dict) else {name: getattr(info, name, None) for name in _FIELDS}
    if not isinstance(data.get("sandbox_id"), str) or not (data.get("sandbox_url") or data.get("base_url")):
        raise Permanent(f"the backend answered {type(info).__name__} where a SandboxInfo belongs")
    return SandboxInfo.from_dict(data)
