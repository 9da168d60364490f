"""The way to an API server: whose credentials, and what a server that misbehaves can do to us."""

from __future__ import annotations

import base64
import json
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.backends.kubernetes.cluster import Cluster as Objects
from reconciler.errors import BackendError, ConfigError, Permanent, Transient, Unavailable
from reconciler.kubeapi.client import Client, Refused
from reconciler.kubeapi.kubeconfig import access
from reconciler.model.desired import Readiness, SandboxSpec
from tests.backends.kubernetes.builders import OWNER
from tests.support.kubernetes import hostile
from tests.support.kubernetes.certificates import Authority
from tests.support.kubernetes.cluster import Cluster
from tests.support.kubernetes.reach import eventually

SPEC = SandboxSpec(owner=OWNER)
PODS = "/api/v1/namespaces/default/pods"


def client(path: Path | None, environ: Mapping[str, str] | None = None, timeout: float = 5.0) -> Client:
    return Client(access(None if path is None else str(path), None, environ or {}), timeout)


def asked(made: Client, path: str = PODS) -> dict[str, Any]:
    try:
        return made.request("GET", path, {}, None, "application/json")
    finally:
        made.close()


# -- whose credentials


@pytest.fixture
def secured(kube_fake: Cluster, tmp_path: Path) -> Authority:
    """TLS, and nobody gets in without saying who they are."""
    authority = Authority(tmp_path)
    kube_fake.server.secure(authority.server_context("127.0.0.1"))
    kube_fake.server.users.anonymous = False
    kube_fake.server.users.tokens["good"] = "admin"
    return authority


def test_a_token_over_tls(kube_fake: Cluster, secured: Authority, tmp_path: Path) -> None:
    good = kube_fake.kubeconfig(tmp_path / "good", token="good", ca=secured.ca)
    assert asked(client(good))["kind"] == "PodList"
    with pytest.raises(Refused) as refused:
        asked(client(kube_fake.kubeconfig(tmp_path / "bad", token="bad", ca=secured.ca)))
    assert refused.value.refusal.status == 401


def test_wrong_credentials_and_a_strange_certificate_are_told(
    kube_fake: Cluster, secured: Authority, tmp_path: Path
) -> None:
    for options, words in (
        ({"token": "bad", "ca": secured.ca}, "does not accept our credentials"),
        ({"token": "good"}, "certificate that is not trusted"),
    ):
        backend = KubernetesBackend(str(kube_fake.kubeconfig(tmp_path / "config", **options)))  # type: ignore[arg-type]
        with pytest.raises(Permanent, match=words):
            backend.observe()
        assert not all(well for _, well, _ in backend.check())
        backend.close()


def test_a_client_certificate_from_a_file_or_from_the_kubeconfig_itself(
    kube_fake: Cluster, secured: Authority, tmp_path: Path
) -> None:
    kube_fake.server.users.certificates = True
    pair = secured.issue("admin")
    path = kube_fake.kubeconfig(tmp_path / "files", ca=secured.ca, client=pair)
    assert asked(client(path))["kind"] == "PodList"
    document = yaml.safe_load(path.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    for entry, names in ((cluster, ("certificate-authority",)), (user, ("client-certificate", "client-key"))):
        for name in names:
            entry[f"{name}-data"] = base64.b64encode(Path(entry.pop(name)).read_bytes()).decode()
    path.write_text(yaml.safe_dump(document))
    assert asked(client(path))["kind"] == "PodList"


def test_a_plugin_is_asked_once_and_again_when_its_token_is_not_taken_any_more(
    kube_fake: Cluster, secured: Authority, tmp_path: Path
) -> None:
    plugin, count = tmp_path / "plugin", tmp_path / "count"
    token = tmp_path / "token"
    token.write_text("good")
    plugin.write_text(
        f"#!{sys.executable}\nimport json, os\n"
        "assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['kind'] == 'ExecCredential'\n"
        f"open({str(count)!r}, 'a').write(os.environ['ASKED_BY'])\n"
        f"print(json.dumps({{'status': {{'token': open({str(token)!r}).read()}}}}))\n"
    )
    plugin.chmod(stat.S_IRWXU)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin",
                     "env": [{"name": "ASKED_BY", "value": "x"}]}}  # fmt: skip
    made = client(kube_fake.kubeconfig(tmp_path / "config", ca=secured.ca, user=user))
    for _ in range(3):
        assert made.request("GET", PODS, {}, None, "")["kind"] == "PodList"
    assert count.read_text() == "x"
    del kube_fake.server.users.tokens["good"]
    kube_fake.server.users.tokens["newer"] = "admin"
    token.write_text("newer")
    assert asked(made)["kind"] == "PodList"
    assert count.read_text() == "xx"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"exec": {"command": "./none", "installHint": "install it from there"}}, "cannot be run"),
        ({"exec": {"command": "false"}}, "failed"),
        ({"exec": {"command": "echo", "args": ["no json"]}}, "gave no credentials"),
    ],
)
def test_a_plugin_that_gives_nothing_is_told(
    kube_fake: Cluster, tmp_path: Path, user: dict[str, Any], words: str
) -> None:
    with pytest.raises(BackendError, match=words):
        asked(client(kube_fake.kubeconfig(tmp_path / "config", user=user)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no kubeconfig"),
        ("- a list", "is no kubeconfig"),
        ("current-context: a", "no context 'a'"),
        ("{}", "no current context"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: c}}]}", "clusters 'c', which is not there"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {server: ftp}}]}", "names no server"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: none}}], users: [{name: u, user: {}}]}", "cannot be read"),
        ("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: bm9uZQ==}}], users: [{name: u, user: {}}]}", "make no sense"),
    ],
)  # fmt: skip
def test_a_kubeconfig_that_makes_no_sense_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        access(str(path), None)


def test_where_a_kubeconfig_is_looked_for(kube_fake: Cluster, tmp_path: Path) -> None:
    home = tmp_path / ".kube"
    home.mkdir()
    kube_fake.kubeconfig(home / "config", context="home")
    kube_fake.kubeconfig(tmp_path / "first", context="first")
    both = {"HOME": str(tmp_path), "KUBECONFIG": f"{tmp_path / 'first'}:{home / 'config'}"}
    assert access(None, None, {"HOME": str(tmp_path)}).server == kube_fake.url
    assert access(None, "home", both).server == kube_fake.url
    with pytest.raises(ConfigError, match="no context 'home'"):
        access(None, "home", {**both, "KUBECONFIG": str(tmp_path / "first")})
    with pytest.raises(ConfigError, match="no kubeconfig, and this is no pod"):
        access(None, None, {"HOME": str(tmp_path / "nowhere")})


# -- a server that misbehaves

Answer = Callable[[Any, Any], None]


@pytest.fixture
def path(kube_fake: Cluster, tmp_path: Path) -> Path:
    return kube_fake.kubeconfig(tmp_path / "kubeconfig")


@pytest.fixture
def objects(path: Path) -> Iterator[Objects]:
    made = Objects(str(path), namespace="default", timeout=2.0)
    yield made
    made.close()


def test_a_busy_server_is_waited_for_as_it_asks(kube_fake: Cluster, objects: Objects) -> None:
    fault = kube_fake.misbehave(hostile.refusal(429, retry_after=1), "/pods", times=1)
    began = time.monotonic()
    assert list(objects.items("Pod")) == []
    assert fault.count == 1
    assert 0.9 < time.monotonic() - began < 5


def test_a_server_that_is_busy_for_longer_is_told_with_what_it_asked_for(
    kube_fake: Cluster, objects: Objects
) -> None:
    kube_fake.misbehave(hostile.refusal(429, retry_after=7), "/pods")
    with pytest.raises(Transient, match="is busy") as caught:
        list(objects.items("Pod"))
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(hostile.raw(200, b"<html>welcome</html>", "text/html"), "no JSON", id="HTML"),
        pytest.param(hostile.raw(200, b"[" * 100_000), "no JSON", id="nested too deeply"),
        pytest.param(hostile.raw(200, b"[]"), "no object", id="a list"),
        pytest.param(hostile.redirect("http://127.0.0.1:1/"), "not followed", id="a redirect"),
        pytest.param(
            hostile.cut(b'{"kind":"PodList","items":['), "cannot be reached|no JSON", id="cut short"
        ),
        pytest.param(hostile.hang_up, "cannot be reached", id="hung up"),
        pytest.param(hostile.hang(4), "did not answer within 2s", id="silence"),
        pytest.param(hostile.slow(6), "did not answer within 2s", id="one byte at a time"),
        pytest.param(hostile.refusal(500), "failed", id="an error of its own"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_no_listing(
    kube_fake: Cluster, objects: Objects, answer: Answer, words: str
) -> None:
    kube_fake.misbehave(answer, "/pods")
    began = time.monotonic()
    with pytest.raises(BackendError, match=words):
        list(objects.items("Pod"))
    assert time.monotonic() - began < 5


def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "config"
    entry = {"current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a"}}]}
    path.write_text(
        json.dumps({**entry, "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}]})
    )
    with pytest.raises(Unavailable, match="refuses connections"):
        list(Objects(str(path), namespace="n", timeout=2.0).items("Pod"))


def test_a_creation_whose_answer_is_lost_is_found_by_the_next(kube_fake: Cluster, path: Path) -> None:
    backend = KubernetesBackend(str(path), image="aio", stop_timeout=1.0)
    kube_fake.misbehave(hostile.answer_then_cut, "/pods", method="POST", times=1)
    with pytest.raises(Unavailable):
        backend.create(None, "a", spec=SPEC)
    info = backend.create(None, "a", spec=SPEC)
    assert [seen.info for seen in backend.observe()] == [info]
    assert kube_fake.get("services", "reconciler-a") is not None
    backend.close()


def test_a_page_that_has_expired_is_an_error_and_no_shorter_listing(kube_fake: Cluster, path: Path) -> None:
    backend = KubernetesBackend(str(path))
    kube_fake.misbehave(hostile.refusal(410, reason="Expired"), "/pods", times=1)
    with pytest.raises(BackendError):
        backend.observe()
    backend.close()


# -- a watch that misbehaves


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(hostile.refusal(410, "too old resource version", reason="Expired"), id="too old"),
        pytest.param(hostile.events({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}), id="too old, told in the stream"),
        pytest.param(hostile.cut(), id="cut in the middle of a line"),
        pytest.param(hostile.raw(200, b"<html>"), id="nonsense"),
        pytest.param(hostile.raw(200, b"[" * 100_000 + b"\n"), id="nested too deeply"),
        pytest.param(hostile.hang_up, id="hung up"),
        pytest.param(hostile.refusal(500), id="an error"),
    ],
)  # fmt: skip
def test_a_watch_that_breaks_is_taken_up_again_and_what_came_between_is_told(
    kube_fake: Cluster, path: Path, answer: Answer
) -> None:
    backend, told = KubernetesBackend(str(path), image="aio", stop_timeout=1.0), []
    fault = kube_fake.misbehave(answer, "/pods.*watch=true", times=2)
    subscription = backend.listen(told.append)
    eventually(lambda: fault.count == 2, "the faults were met")
    eventually(lambda: "" in told, "anything may have happened")
    told.clear()
    backend.create(None, "a", spec=SPEC)
    eventually(lambda: {"a", ""} & set(told), "it is told")
    subscription.close()
    backend.close()


def test_readiness_survives_a_server_that_is_restarted(kube_fake: Cluster, path: Path) -> None:
    backend = KubernetesBackend(str(path), image="aio", stop_timeout=1.0)
    info = backend.create(None, "a", spec=SPEC)

    def ready() -> bool:
        answer = backend.probe(info, Readiness(), 5.0)
        return answer is not None and answer.ready

    eventually(ready, "it is ready")
    kube_fake.server.drop_connections()
    other = backend.create(None, "b", spec=SPEC)
    info = other
    eventually(ready, "the other one is ready")
    backend.close()


def test_closing_wakes_whoever_watches_at_once(kube_fake: Cluster, path: Path) -> None:
    backend = KubernetesBackend(str(path))
    subscription = backend.listen(lambda _: None)
    eventually(lambda: any(request.watches for request in kube_fake.log), "it watches")
    began = time.monotonic()
    subscription.close()
    assert time.monotonic() - began < 1.5
    assert not [one for one in threading.enumerate() if one.name.startswith("follow-")]
    backend.close()
