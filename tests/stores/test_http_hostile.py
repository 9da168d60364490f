"""Answers that are wrong, huge, slow, endless or elsewhere: each ends in time, with a message that says what next."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import ConfigError, LockHeld, StoreError
from reconciler.model.desired import Secret
from reconciler.stores.http.credentials import Credentials
from reconciler.stores.http.wire import Wire
from reconciler.testing.store_conformance import a_state
from tests.stores.http_places import a_store, a_store_at, paced
from tests.stores.places import Clock
from tests.support.required import required
from tests.support.servers import Talk, drip, endless, free_port, garbage, hang, serving, status
from tests.support.states import HangUp, Meddle, Reply, Request, keeping

CANARY = "c4n4ry-t0ken"


def drip_body(conn: socket.socket, _: str) -> None:
    """A head at once, then a body of one byte at a time: no single read ever times out."""
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        conn.sendall(b" ")
        time.sleep(0.02)


def endless_heads(conn: socket.socket, _: str) -> None:
    while True:
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def body(data: bytes, *headers: str, length: int | None = None) -> Talk:
    def talk(conn: socket.socket, _: str) -> None:
        lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(data) if length is None else length}", *headers]
        conn.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + data)

    return talk


@pytest.mark.parametrize(
    ("talk", "says"),
    [
        (hang, "did not answer within 0.5 s"),
        (drip, "did not answer within 0.5 s"),
        (drip_body, "did not answer within 0.5 s"),
        (endless_heads, "did not answer within 0.5 s"),
        (garbage, "no HTTP"),
        (body(b"{}", length=2**40), "more than 64 MiB"),
        (body(b'{"a": 1', length=100), "breaks off"),
        (body(b"x", "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg=="), "breaks off"),
        (body(gzip.compress(b"{}"), "Content-Encoding: gzip"), "packed as gzip"),
        (body(b"\xff\xfe"), "no state: byte 0 is no UTF-8"),
        (body(b"{"), "no state: line 1"),
        (body(b"[" * 100_000), "nested too deeply"),
        (body(b"<html>please log in</html>", "Content-Type: text/html"), "a web page, probably to log in"),
    ],
    ids=[
        "silence", "a head that drips", "a body that drips", "heads without end", "garbage", "a terabyte announced",
        "cut off", "another checksum", "packed", "no text", "no JSON", "too deep", "a log-in page",
    ],
)  # fmt: skip
def test_reading(talk: Talk, says: str) -> None:
    with serving(talk) as server:
        began = time.monotonic()
        store = a_store_at(f"{server.url}/research", timeout=0.5)
        with pytest.raises(StoreError, match=says) as told:
            store.read()
        assert time.monotonic() - began < 5
    assert told.value.hint


def test_a_body_without_end_is_read_no_further_than_the_bound() -> None:
    nobody = Credentials(header=None, kind="no credentials")
    with serving(endless) as server, pytest.raises(StoreError, match="more than 1 MiB"):
        Wire(credentials=nobody, timeout=20.0, most=1024 * 1024).ask("GET", server.url)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "LOCK", "POST", "UNLOCK"])
def test_no_redirect_is_followed_whatever_was_asked(code: int, method: str) -> None:
    with serving(status(200)) as elsewhere, keeping() as server:
        store = a_store(server, token=Secret(CANARY))
        lease = store.lock("apply")
        target = {"Location": f"{elsewhere.url}/x?token=seen"}
        server.before = lambda r: Reply(code, headers=target) if r.method == method else None
        asks: dict[str, Callable[[], object]] = {
            "GET": store.read,
            "LOCK": lambda: store.lock("apply"),
            "POST": lambda: store.write(lease, a_state()),
            "UNLOCK": lambda: store.force_unlock(lease.info.id),
        }
        with pytest.raises(StoreError, match=f"redirects to {elsewhere.url}/x .*not followed") as told:
            asks[method]()
        assert elsewhere.heads == []
        assert "seen" not in f"{told.value.message} {told.value.hint}"


@pytest.mark.parametrize(
    ("code", "says", "hint"),
    [
        (400, "HTTP 400", "lock_method: POST"),
        (401, "does not accept the bearer token", "RECONCILER_HTTP_TOKEN"),
        (403, "the bearer token may not do that", "Maintainer"),
        (404, "nothing at that address", "`lock_url`"),
        (405, "does not know that request", "lock_method: POST"),
        (418, "HTTP 418", "address"),
        (429, "asked too often", "wait"),
        (500, "has trouble", "look at the server"),
        (503, "has trouble", "look at the server"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "LOCK", "POST"])
def test_each_status_says_what_next_and_quotes_no_credential(
    code: int, says: str, hint: str, method: str
) -> None:
    if (code, method) == (404, "GET"):
        return  # there is no state yet
    if (code, method) == (400, "POST"):
        says, hint = "refuses each write", "log"
    with keeping() as server:
        store = a_store(server, token=Secret(CANARY), timeout=2.0)
        lease = store.lock("apply")
        server.before = lambda r: Reply(code, CANARY.encode()) if r.method == method else None
        asks: dict[str, Callable[[], object]] = {
            "GET": store.read,
            "LOCK": lambda: store.lock("apply"),
            "POST": lambda: store.write(lease, a_state()),
        }
        with pytest.raises(StoreError, match=says) as told:
            asks[method]()
    assert not isinstance(told.value, LockHeld)
    assert hint in told.value.hint
    assert CANARY not in f"{told.value!r} {told.value.message} {told.value.hint} {told.value.__cause__!r}"


@pytest.mark.parametrize("code", [409, 423])
def test_taken_without_a_word_about_who_is_still_taken(code: int) -> None:
    with keeping() as server:
        server.before = lambda r: Reply(code) if r.method == "LOCK" else None
        with pytest.raises(LockHeld, match="does not name"):
            a_store(server).lock("apply")


def test_what_fails_in_passing_is_asked_again_and_a_wait_is_kept_to() -> None:
    clock = Clock()
    with keeping() as server:
        answers = iter([Reply(503), Reply(429, headers={"Retry-After": "7"})])
        server.before = lambda r: next(answers, None)
        assert a_store(server, pace=paced(clock)).read() is None
    assert clock.slept == [1.0, 7.0]


def test_a_wait_that_is_too_long_is_told_instead() -> None:
    clock = Clock()
    with keeping() as server:
        server.before = lambda r: Reply(429, headers={"Retry-After": "86400"})
        with pytest.raises(StoreError, match="asks to wait 86400 s"):
            a_store(server, pace=paced(clock)).read()
    assert clock.slept == []


def test_nobody_there_is_told_with_the_address() -> None:
    url = f"http://127.0.0.1:{free_port()}/states/research?private=1"
    with pytest.raises(StoreError, match=r"nobody listens at http://127.0.0.1") as told:
        a_store_at(url).read()
    assert "private" not in told.value.message


def test_a_log_in_page_is_no_lock() -> None:
    page = Reply(200, b"<html>", {"Content-Type": "text/html"})
    with keeping() as server:
        server.before = lambda r: page if r.method == "LOCK" else None
        with pytest.raises(StoreError, match="a web page"):
            a_store(server).lock("apply")


def test_giving_the_lock_back_never_raises() -> None:
    def gone(request: Request) -> Reply | None:
        raise HangUp

    with keeping() as server:
        lease = a_store(server).lock("apply")
        meddle: Meddle = gone
        server.before = meddle
        lease.release()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "ftp://h/x"}, "`url` is no URL"),
        ({"url": "http://h:99999/x"}, "`url` is no URL"),
        ({"url": "http://h/a b"}, "`url` is no URL"),
        ({"url": "http://ann:c4n4ry-t0ken@h/x"}, "holds a user or a password"),
        ({"lock_url": "https://c4n4ry-t0ken@h/x"}, "`lock_url` holds a user"),
        ({"lock_method": "lock"}, "`lock_method` is no HTTP method"),
        ({"lock_method": "POST"}, "taking the lock would overwrite the state"),
        ({"unlock_method": "DELETE"}, "giving the lock back would be DELETE"),
        ({"token": Secret("c4n4ry-t0ken"), "password": Secret("x")}, "two ways to say who asks"),
        ({"token": Secret("c4n4ry-t0ken\nX: y")}, "characters that no header may"),
        ({"password": Secret("c4n4ry-t0ken")}, "needs a `username`"),
        ({"username": "ann"}, "needs a `password`"),
        ({"timeout": 0}, "`timeout` is no time"),
        (
            {"environ": {"RECONCILER_HTTP_TOKEN": "c4n4ry-t0ken", "RECONCILER_HTTP_PASSWORD": "x"}},
            "unset one",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    fields: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError) as told:
        a_store_at(**{"url": "http://127.0.0.1:1/x", **fields})  # type: ignore[arg-type]
    text = f"{told.value.message} {told.value.hint}"
    assert says in text
    assert CANARY not in text


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, None),
        ({"token": Secret("t1")}, "Bearer t1"),
        ({"environ": {"RECONCILER_HTTP_TOKEN": "t2\n"}}, "Bearer t2"),
        ({"username": "ann", "password": Secret("pä")}, "Basic YW5uOnDDpA=="),
        (
            {"environ": {"RECONCILER_HTTP_USERNAME": "ann", "RECONCILER_HTTP_PASSWORD": "p"}},
            "Basic YW5uOnA=",
        ),
        ({"username": "ann", "environ": {"RECONCILER_HTTP_PASSWORD": "p"}}, "Basic YW5uOnA="),
        ({"token": Secret("t1"), "environ": {"RECONCILER_HTTP_PASSWORD": "p"}}, "Bearer t1"),
    ],
)
def test_who_asks(fields: dict[str, object], sent: str | None) -> None:
    with keeping() as server:
        a_store(server, **fields).read()
        assert server.requests[0].headers.get("authorization") == sent


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    asked = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out crt.pem"
    )
    subprocess.run(asked.split(), cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "crt.pem").read_bytes())
    return both


@required("openssl")
def test_a_certificate_is_trusted_only_when_its_authority_is_named(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with keeping(context=context) as server:
        with pytest.raises(StoreError, match="is not trusted") as told:
            a_store(server, token=Secret(CANARY)).read()
        assert "`ca_cert`" in told.value.hint
        assert server.requests == []
        ours = a_store(server, ca_cert=str(certificate.with_name("crt.pem")))
        with ours.lock("apply") as lease:
            written = ours.write(lease, a_state("a"))
        assert ours.read() == written
        with pytest.raises(StoreError, match="no file of certificates"):
            a_store(server, ca_cert=str(certificate.with_name("key.pem"))).read()
