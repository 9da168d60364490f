"""A third party's backend behind a guard: what it raises becomes one of our errors, and what it answers is held against
the contract, at the call.

It is no sandbox: such a backend is Python code that its user chose to run, with all that the user may do. What is kept is
the run's own honesty: a verb that ends the interpreter must not end an apply with exit code 0, and one that answers
nonsense must be told by its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from reconciler.backends import answers
from reconciler.backends.base import Capabilities, ExecResult, ProbeAnswer, SandboxBackend, Subscription
from reconciler.backends.subscriber import Subscriber
from reconciler.errors import Permanent, ReconcilerError, Unavailable, Unsupported
from reconciler.model.desired import Readiness, SandboxSpec
from reconciler.model.drift import Provenance
from reconciler.model.observed import ObservedSandbox, SandboxInfo, Usage

T = TypeVar("T")
_LONGEST = 2000  # characters of what an exception says of itself


class Guarded(SandboxBackend):
    """Every verb of `backend`, which knows all of our contract."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend
        self._name = type(backend).__qualname__
        with translated(f"{self._name}.capabilities"):
            declared: object = backend.capabilities
        if not isinstance(declared, Capabilities):
            raise Permanent(
                f"{self._name}.capabilities: {answers.shown(declared)}, where Capabilities belong",
                hint=answers.BUG,
            )
        self.__dict__["capabilities"] = declared

    def _ask(self, verb: str, check: Callable[[object], T], *given: Any, **named: Any) -> T:
        with translated(f"{self._name}.{verb}"):
            made = getattr(self._backend, verb)(*given, **named)
            return self._held(verb, check, made)

    def _held(self, verb: str, check: Callable[[object], T], made: object) -> T:
        try:
            return check(made)
        except Permanent as error:
            raise Permanent(f"{self._name}.{verb}: {error.message}", hint=error.hint) from None

    def create(
        self,
        thread_id: str | None,
        sandbox_id: str,
        extra_mounts: list[tuple[str, str, bool]] | None = None,
        *,
        spec: SandboxSpec | None = None,
    ) -> SandboxInfo:
        return self._ask("create", answers.an_info, thread_id, sandbox_id, extra_mounts, spec=spec)

    def destroy(self, info: SandboxInfo) -> None:
        self._ask("destroy", answers.nothing, info)

    def is_alive(self, info: SandboxInfo) -> bool:
        return self._ask("is_alive", answers.a_truth, info)

    def discover(self, sandbox_id: str) -> SandboxInfo | None:
        return self._ask("discover", answers.maybe(answers.an_info), sandbox_id)

    def list_running(self) -> list[SandboxInfo]:
        return self._ask("list_running", answers.infos)

    def observe(self) -> Sequence[ObservedSandbox]:
        return self._ask("observe", answers.objects)

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        return self._ask("look", answers.maybe(answers.an_object), sandbox_id)

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        return self._ask("look_closely", answers.objects, sandbox_ids)

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return self._ask("update", answers.an_info, info, spec)

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return self._ask("restart", answers.an_info, info, spec)

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        return self._ask("probe", answers.maybe(answers.a_probe), info, readiness, timeout)

    def request_headers(self, info: SandboxInfo) -> Mapping[str, str]:
        return self._ask("request_headers", answers.headers, info)

    def exec(self, info: SandboxInfo, command: Sequence[str], *, timeout: float = 60.0) -> ExecResult:
        return self._ask("exec", answers.a_result, info, command, timeout=timeout)

    def usage(self, info: SandboxInfo) -> Usage | None:
        return self._ask("usage", answers.maybe(answers.a_usage), info)

    def logs(self, info: SandboxInfo, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        lines = self._ask("logs", answers.an_iterator, info, tail=tail, follow=follow)
        while True:
            with translated(f"{self._name}.logs"):
                try:
                    line = next(lines)
                except StopIteration:
                    return
            yield self._held("logs", answers.a_text, line)

    def listen(self, tell: Callable[[str], None]) -> Subscription:
        """What is no name may be any of them. However theirs closes, nothing is told afterwards."""
        subscriber = Subscriber(tell)
        theirs = self._ask(
            "listen",
            answers.a_subscription,
            lambda name="", *_: subscriber(name if isinstance(name, str) else ""),
        )
        return _Guarded(theirs, subscriber, f"{self._name}.listen")

    def provenance(self, sandbox_ids: Collection[str]) -> Mapping[str, Provenance]:
        return self._ask("provenance", answers.origins, sandbox_ids)

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self._ask("tell_progress", answers.nothing, lambda name, doing: tell(str(name), str(doing)))

    def place(self) -> str:
        return self._ask("place", answers.a_text)

    def notes(self) -> Sequence[str]:
        return self._ask("notes", answers.texts)

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return self._ask("check", answers.rows)

    def close(self) -> None:
        self._ask("close", answers.nothing)


class _Guarded:
    """Their subscription, behind ours."""

    def __init__(self, theirs: Subscription, subscriber: Subscriber, what: str) -> None:
        self._theirs = theirs
        self._subscriber = subscriber
        self._what = what

    def close(self) -> None:
        self._subscriber.close()
        with translated(f"{self._what}.close"):
            self._theirs.close()


@contextmanager
def translated(what: str) -> Iterator[None]:
    """What a third party's code raises inside, as one of our errors; `what` is what was asked of it. Ctrl-C passes: it
    comes to the main thread alone."""
    try:
        yield
    except ReconcilerError:
        raise
    except NotImplementedError as error:
        raise Unsupported(f"{what}: {_told(error)}") from error
    except OSError as error:
        raise Unavailable(f"{what}: {_told(error)}", hint="check that what it talks to is up") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        raise Permanent(f"{what}: {_told(error)}", hint=answers.BUG) from error


def _told(error: BaseException) -> str:
    """Its class, and what it says as far as anybody wants to read it; it may fail even at that."""
    kind = type(error).__name__
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - it is not ours
        return kind
    if not said:
        return kind
    return f"{kind}: {said if len(said) <= _LONGEST else said[:_LONGEST] + '…'}"
