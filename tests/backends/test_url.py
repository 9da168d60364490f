"""The `url` backend: it looks and waits, sends its key to that address alone, and ends nothing."""

from __future__ import annotations

import pytest

from reconciler.backends.url import UrlBackend
from reconciler.errors import ConfigError, Permanent
from reconciler.model.desired import SandboxSpec
from reconciler.model.observed import Phase, SandboxInfo
from tests.support.servers import free_port, garbage, hang, serving, status


def test_it_is_there_under_any_name_and_nothing_but_a_get_is_ever_sent() -> None:
    with serving(status(200)) as server:
        backend = UrlBackend(f"{server.url}/", "sandbox-key")
        info = backend.create(None, "a")
        backend.update(info, SandboxSpec())
        backend.destroy(info)
        seen = backend.look("a")
        assert seen is not None
        assert (seen.info, seen.phase) == (SandboxInfo("a", server.url), Phase.STARTING)
        assert backend.discover("a") == info
        assert backend.check() == (("sandbox", True, f"{server.url} answers"),)
        assert all(head.startswith("GET /v1/sandbox HTTP/1.1") for head in server.heads)
        assert all("X-AIO-API-Key: sandbox-key" in head for head in server.heads)


@pytest.mark.parametrize(
    ("talk", "detail"),
    [
        (status(401), "refuses our key"),
        (status(502), "is up, but fails (HTTP 502)"),
        (hang, "did not answer within 0.2 s"),
        (garbage, "no HTTP"),
    ],
)
def test_what_does_not_answer_well_is_unready_and_never_absent(talk: object, detail: str) -> None:
    with serving(talk) as server:  # type: ignore[arg-type]
        seen = UrlBackend(server.url, "k", timeout=0.2).look("a")
        assert seen is not None
        assert seen.phase is Phase.UNREADY
        assert detail in seen.detail


def test_nobody_there_is_unready_and_never_absent() -> None:
    backend = UrlBackend(f"http://127.0.0.1:{free_port()}")
    seen = backend.look("a")
    assert seen is not None
    assert (seen.phase, backend.is_alive(seen.info)) == (Phase.UNREADY, True)
    assert "nobody listens" in seen.detail


def test_the_key_goes_to_no_other_address() -> None:
    backend = UrlBackend("http://one.example", "k")
    assert backend.request_headers(SandboxInfo("a", "http://one.example/")) == {"X-AIO-API-Key": "k"}
    assert backend.request_headers(SandboxInfo("a", "http://two.example")) == {}
    assert UrlBackend("http://one.example").request_headers(SandboxInfo("a", "http://one.example")) == {}


def test_wrong_options_and_mounts_are_refused() -> None:
    for options in (
        {"url": "one.example"},
        {"url": "http://a", "timeout": 0},
        {"url": "http://a", "api_key": "\n"},
    ):
        with pytest.raises(ConfigError):
            UrlBackend(**options)  # type: ignore[arg-type]
    with pytest.raises(Permanent):
        UrlBackend("http://a").create(None, "a", [("/h", "/c", True)])
