"""A third party's five verbs, seen through ours: arguments, answers, errors."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from reconciler.backends.adapter import SeedAdapter, presented
from reconciler.backends.memory import MemoryBackend
from reconciler.errors import (
    BackendError,
    NotFound,
    Permanent,
    StoreError,
    Transient,
    Unavailable,
    Unsupported,
)
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Mount, SandboxSpec
from reconciler.model.observed import Phase, SandboxInfo
from tests.backends.seed_contract import HalfBackend, SeedBackend, StubbornBackend, TheirInfo


class ReadTimeout(Exception):
    """As HTTP clients name theirs."""


class SomethingElse(Exception):
    pass


def test_thread_and_mounts_of_the_specification_arrive() -> None:
    inner = SeedBackend("arguments")
    spec = SandboxSpec(thread_id="t-9", mounts=(Mount(source="/a", target="/b", read_only=True),))
    presented(inner).create(None, "a", [("/c", "/d", False)], spec=spec)
    presented(inner).create("t-1", "b")
    assert inner.calls == [
        ("create", "t-9", "a", [("/a", "/b", True), ("/c", "/d", False)]),
        ("create", "t-1", "b", None),
    ]


def test_answers_are_ours_and_unlabelled() -> None:
    backend = presented(SeedBackend("answers"))
    info = backend.create(None, "a")
    assert type(info) is SandboxInfo
    [seen] = backend.observe()
    assert (seen.info, seen.owner, seen.phase, seen.attributes) == (info, None, Phase.STARTING, None)


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        pytest.param(ConnectionRefusedError("no"), Unavailable, id="a refused connection"),
        pytest.param(TimeoutError("no"), Unavailable, id="a timeout"),
        pytest.param(subprocess.TimeoutExpired("docker", 5), Unavailable, id="a command that took too long"),
        pytest.param(ReadTimeout("no"), Unavailable, id="another client's timeout"),
        pytest.param(NotImplementedError("no"), Unsupported, id="not implemented"),
        pytest.param(SomethingElse("no"), Permanent, id="anything else"),
        pytest.param(ValueError("no"), Permanent, id="a bug of theirs"),
        pytest.param(NotFound("no"), NotFound, id="ours passes"),
        pytest.param(StoreError("no"), StoreError, id="any of ours passes"),
    ],
)
def test_what_they_raise_becomes_ours_and_stays_the_cause(
    raised: Exception, becomes: type[Exception]
) -> None:
    backend = presented(SeedBackend("errors", fails_with=raised))
    info = SandboxInfo("a", "http://a")
    calls: list[Any] = [
        lambda: backend.create(None, "a"),
        lambda: backend.destroy(info),
        lambda: backend.is_alive(info),
        lambda: backend.discover("a"),
        lambda: backend.look("a"),
        backend.list_running,
        backend.observe,
    ]
    for call in calls:
        with pytest.raises(becomes) as caught:
            call()
        assert caught.type is becomes
        assert caught.value is raised or caught.value.__cause__ is raised


def test_a_destroy_that_did_nothing_is_not_success() -> None:
    backend = presented(StubbornBackend("stubborn"))
    info = backend.create(None, "a")
    with pytest.raises(Transient, match="still alive"):
        backend.destroy(info)


def test_restarts_and_events_are_not_theirs_whatever_they_declare() -> None:
    inner = SeedBackend("restart")
    inner.capabilities = Capabilities(restarts=True, events=True, logs=True)  # type: ignore[attr-defined]
    backend = presented(inner)
    assert not backend.capabilities.restarts
    assert not backend.capabilities.events
    assert backend.capabilities.logs
    with pytest.raises(Unsupported):
        backend.restart(backend.create(None, "a"), SandboxSpec())


def test_an_answer_that_is_no_sandbox_is_an_error() -> None:
    class Confused(SeedBackend):
        def discover(self, sandbox_id: str) -> TheirInfo | None:
            return TheirInfo("a", "")

    with pytest.raises(BackendError, match="where a SandboxInfo belongs"):
        presented(Confused("confused")).discover("a")


def test_a_backend_of_ours_is_not_wrapped() -> None:
    backend = MemoryBackend()
    assert presented(backend) is backend
    assert isinstance(presented(SeedBackend("wrapped")), SeedAdapter)


def test_an_object_without_the_verbs_is_refused() -> None:
    with pytest.raises(Permanent, match="lacks is_alive, discover, list_running"):
        presented(HalfBackend())
