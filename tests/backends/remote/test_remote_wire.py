"""What comes back from a provisioner's address that is no answer of one: a clear error, and the key stays where it belongs."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler import RemoteSandboxBackend
from reconciler.errors import BackendError, ConfigError, Permanent, Transient, Unavailable
from reconciler.model.desired import Secret
from tests.support.provisioner import Provisioner, page, provisioner, saying
from tests.support.required import required
from tests.support.servers import Talk, drip, endless, free_port, garbage, hang, serving

KEY = "the-key"


@pytest.fixture
def server() -> Iterator[Provisioner]:
    with provisioner(key=KEY) as made:
        yield made


@pytest.fixture
def backend(server: Provisioner) -> Iterator[RemoteSandboxBackend]:
    made = RemoteSandboxBackend(server.url, KEY, sleep=lambda _: None)
    yield made
    made.close()


def test_the_key_is_sent_only_when_there_is_one(server: Provisioner) -> None:
    RemoteSandboxBackend(server.url, KEY).observe()
    with pytest.raises(Permanent, match="wants a key") as told:
        RemoteSandboxBackend(server.url).observe()
    assert "api_key" in told.value.hint
    sent = [{name.lower() for name in headers} for _, _, headers, _ in server.requests]
    assert ["x-api-key" in names for names in sent] == [True, False]


def test_a_wrong_key_is_said_and_not_shown(server: Provisioner) -> None:
    with pytest.raises(Permanent, match="is not the one it knows") as told:
        RemoteSandboxBackend(server.url, Secret("canary-1234")).create(None, "a")
    assert "canary" not in f"{told.value} {told.value.hint}"
    assert len(server.requests) == 1


def test_one_connection_serves_many_requests_and_a_closed_one_is_opened_anew(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    for _ in range(5):
        backend.observe()
    assert server.connections == 1
    server.next_answers.append(saying(200, b'{"sandboxes": []}', ("Connection", "close")))
    backend.observe()
    backend.observe()
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(page(), "web page", id="a log-in page"),
        pytest.param(page(404), "web page", id="a proxy's 404"),
        pytest.param(saying(200, b"{no json"), "no JSON", id="no JSON"),
        pytest.param(saying(200, b"[" * 100_000), "no JSON", id="nested too deep"),
        pytest.param(saying(200, b"[]"), "lists its sandboxes as", id="another shape"),
        pytest.param(
            saying(404, b'{"detail": "Not Found"}'), "failed with 404: Not Found", id="another service"
        ),
        pytest.param(
            saying(400, b'{"detail": "key the-key is bad"}'), "key ••• is bad", id="it quotes our key"
        ),
        pytest.param(saying(200, b"x", ("Content-Encoding", "gzip")), "packed as gzip", id="packed"),
    ],
)
def test_what_is_no_answer_of_a_provisioner_is_said(
    server: Provisioner, backend: RemoteSandboxBackend, answer: Callable[..., None], message: str
) -> None:
    server.next_answers.append(answer)
    with pytest.raises(Permanent, match=message):
        backend.observe()
    assert len(server.requests) == 1


def test_a_page_is_never_taken_for_absence(server: Provisioner, backend: RemoteSandboxBackend) -> None:
    server.next_answers.append(page(404))
    with pytest.raises(Permanent, match="web page"):
        backend.discover("a")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_so_the_key_goes_nowhere_else(
    server: Provisioner, backend: RemoteSandboxBackend, status: int
) -> None:
    with provisioner(key=KEY) as elsewhere:
        server.next_answers.append(saying(status, b"", ("Location", f"{elsewhere.url}/api/sandboxes")))
        with pytest.raises(Permanent, match=rf"sends us elsewhere .{status}, to {elsewhere.url}"):
            backend.observe()
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_fails_in_passing_is_asked_again(
    server: Provisioner, backend: RemoteSandboxBackend, status: int
) -> None:
    server.next_answers += [saying(status), saying(status)]
    assert backend.observe() == []
    server.next_answers += [saying(status, b'{"detail": "busy"}')] * 3
    with pytest.raises(Transient, match=f"failed with {status}: busy"):
        backend.observe()


def test_a_server_that_names_a_time_beyond_ours_is_not_asked_again(
    server: Provisioner, backend: RemoteSandboxBackend
) -> None:
    server.next_answers.append(saying(429, b"{}", ("Retry-After", "120")))
    with pytest.raises(Transient) as told:
        backend.observe()
    assert (told.value.retry_after, len(server.requests)) == (120.0, 1)


@pytest.mark.parametrize(
    ("talk", "kind", "message"),
    [
        pytest.param(hang, Unavailable, "did not answer within 0.3 s", id="hangs"),
        pytest.param(drip, Unavailable, "did not answer within 0.3 s", id="a byte at a time"),
        pytest.param(endless, Permanent, "more than 16 MiB", id="a body without end"),
        pytest.param(garbage, Permanent, "no HTTP", id="no HTTP"),
        pytest.param(lambda conn, _: None, Unavailable, "broke the connection off", id="hangs up"),
        pytest.param(
            lambda conn, _: conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"),
            Unavailable,
            "cut short",
            id="cut short",
        ),
    ],
)
def test_hostile_servers(talk: Talk, kind: type[BackendError], message: str) -> None:
    with serving(talk) as server:
        timeout = 20.0 if talk is endless else 0.3
        with pytest.raises(kind, match=message):
            RemoteSandboxBackend(server.url, timeout=timeout, sleep=lambda _: None).observe()


def test_nobody_there_and_no_such_host_are_unavailable() -> None:
    with pytest.raises(Unavailable, match="nobody listens"):
        RemoteSandboxBackend(f"http://127.0.0.1:{free_port()}", timeout=0.1).observe()
    with pytest.raises(Unavailable, match=r"has no address|cannot be reached"):
        RemoteSandboxBackend("http://no-such-host.invalid", timeout=0.1).observe()


def test_an_ipv6_host() -> None:
    with provisioner(key=KEY, host="::1") as server:
        assert RemoteSandboxBackend(server.url, KEY).create(None, "a").sandbox_id == "a"


def test_proxy_variables_are_for_hosts_far_away(server: Provisioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is a provisioner that answers for any host: it sees the whole URL."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with provisioner(key=KEY) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert RemoteSandboxBackend(server.url, KEY).observe() == []
        assert proxy.requests == []
        proxy.next_answers.append(saying(200, b'{"sandboxes": []}'))
        assert RemoteSandboxBackend("http://provisioner.example.com", KEY).observe() == []
        [(method, target, _, _)] = proxy.requests
        assert (method, target) == ("GET", "http://provisioner.example.com/api/sandboxes")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with key.pem and crt.pem of 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    asked = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out crt.pem"
    )
    subprocess.run(asked.split(), cwd=folder, check=True, capture_output=True)
    return folder


@required("openssl")
def test_tls_trusts_what_is_named_and_shows_a_certificate_where_one_is_wanted(certificate: Path) -> None:
    crt, key = str(certificate / "crt.pem"), str(certificate / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    with provisioner(key=KEY, context=context) as server:
        with pytest.raises(Permanent, match="is not trusted") as told:
            RemoteSandboxBackend(server.url, KEY).observe()
        assert "ca_cert" in told.value.hint
        assert RemoteSandboxBackend(server.url, KEY, tls={"ca_cert": crt}).observe() == []
        with pytest.raises(BackendError) as told:
            RemoteSandboxBackend(server.url.replace("https", "http"), KEY, timeout=0.5).observe()
        assert "http or https" in told.value.hint
        assert [headers.get("X-API-Key") for _, _, headers, _ in server.requests] == [KEY]
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(crt)
    with provisioner(key=KEY, context=context) as server:
        whole = {"ca_cert": crt, "client_cert": crt, "client_key": key}
        assert RemoteSandboxBackend(server.url, KEY, tls=whole).observe() == []
    with provisioner(key=KEY) as plain, pytest.raises(Permanent, match=r"TLS with .* failed"):
        RemoteSandboxBackend(plain.url.replace("http", "https"), KEY).observe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "provisioner:8002"}, "`url` is no address"),
        ({"url": "http://user:pw@h"}, "`url` is no address"),
        ({"url": "http://h/?key=1"}, "`url` is no address"),
        ({"url": "http://h:99999"}, "`url` is no address"),
        ({"url": "http://h", "api_key": "two\nlines"}, "no header may"),
        ({"url": "http://h", "api_key": {"env": "X"}}, "is no text"),
        ({"url": "http://h", "timeout": -1}, "no time"),
        ({"url": "http://h", "tls": {"ca_cert": "/x"}}, "not https"),
        ({"url": "https://h", "tls": {"ca_cert": "/no/such"}}, "no file of certificates"),
        ({"url": "https://h", "tls": {"client_key": "/x"}}, "without a client_cert"),
        ({"url": "https://h", "tls": {"client_cert": "/no/such"}}, "cannot be used"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        RemoteSandboxBackend(**options)  # type: ignore[arg-type]
    assert "pw" not in str(told.value)
