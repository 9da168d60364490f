"""What a cluster is asked, what becomes of the answers, and what is put back."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.backends.kubernetes.cluster import Cluster as KubeApi
from reconciler.backends.kubernetes.forward import ask
from reconciler.backends.kubernetes.look import Found
from reconciler.errors import (
    BackendError,
    ConfigError,
    Conflict,
    Permanent,
    Transient,
    Unavailable,
    Unsupported,
)
from reconciler.model.desired import (
    Network,
    NetworkMode,
    ProbeKind,
    Readiness,
    Resources,
    SandboxSpec,
)
from reconciler.model.drift import Cause
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from tests.backends.kubernetes.builders import OWNER, a_secret
from tests.support.kubernetes.cluster import Cluster
from tests.support.kubernetes.hostile import refusal
from tests.support.kubernetes.reach import eventually

SPEC = SandboxSpec(owner=OWNER, labels={"team": "search"})
ISOLATED = replace(SPEC, network=Network(mode=NetworkMode.ISOLATED))
SECRET = replace(SPEC, secrets={"TOKEN": a_secret("canary")})
FORMS = pytest.mark.parametrize("api", ["pod", "agent-sandbox"])
Make = Callable[..., KubernetesBackend]


@pytest.fixture
def make(kube_fake: Cluster, tmp_path: Path) -> Iterator[Make]:
    """Backends on a fake cluster of one's own."""
    path = kube_fake.kubeconfig(tmp_path / "kubeconfig")
    made: list[KubernetesBackend] = []

    def give(**options: Any) -> KubernetesBackend:
        made.append(KubernetesBackend(str(path), **{"image": "aio", "stop_timeout": 1.0, **options}))
        return made[-1]

    yield give
    for backend in made:
        backend.close()


def only(backend: KubernetesBackend) -> ObservedSandbox:
    [seen] = backend.observe()
    return seen


def waited(backend: KubernetesBackend, info: SandboxInfo, seconds: float = 10.0) -> tuple[bool, str]:
    """Until it is ready (True), or never will be."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        answer = backend.probe(info, Readiness(), 5.0)
        assert answer is not None
        if answer.ready or answer.dead:
            return answer.ready, answer.detail
        time.sleep(0.02)
    raise AssertionError("neither ready nor dead in time")


# -- create


@FORMS
@pytest.mark.parametrize("spec", [SECRET, ISOLATED], ids=["a secret", "a policy"])
def test_a_creation_that_was_cut_short_is_finished_by_the_next(
    kube_fake: Cluster, make: Make, api: str, spec: SandboxSpec
) -> None:
    backend = make(api=api, service="none", access="proxy")
    fault = kube_fake.misbehave(refusal(503), "secrets|networkpolicies", method="POST", times=1)
    with pytest.raises(Transient):
        backend.create(None, "a", spec=spec)
    assert fault.count == 1
    assert only(backend).phase is Phase.FAILED
    assert only(backend).detail == "made, but never started"
    assert not backend.is_alive(only(backend).info)
    info = backend.create(None, "a", spec=spec)
    assert waited(backend, info) == (True, "")
    assert [seen.info for seen in backend.observe()] == [info]


@FORMS
def test_what_is_refused_for_good_leaves_nothing_behind(kube_fake: Cluster, make: Make, api: str) -> None:
    backend = make(api=api)
    kube_fake.misbehave(refusal(422, "data: Too long", reason="Invalid"), "secrets", method="POST")
    with pytest.raises(Permanent, match="Too long"):
        backend.create(None, "a", spec=SECRET)
    assert backend.observe() == []
    assert kube_fake.pods() == []


@FORMS
def test_a_secret_goes_with_its_sandbox_and_is_never_in_the_pod(
    kube_fake: Cluster, make: Make, api: str
) -> None:
    backend = make(api=api)
    info = backend.create(None, "a", spec=SECRET)
    kept = kube_fake.get("secrets", "reconciler-a")
    assert kept is not None
    assert kept["metadata"]["ownerReferences"][0]["uid"] == info.container_id
    eventually(kube_fake.pods, "the pod is made")
    assert "canary" not in repr(kube_fake.pods())
    backend.destroy(info)
    assert kube_fake.get("secrets", "reconciler-a") is None
    assert kube_fake.get("services", "reconciler-a") is None


def test_a_name_that_somebody_else_has_is_a_conflict_and_theirs_is_left_alone(
    kube_fake: Cluster, make: Make
) -> None:
    kube_fake.make("v1", "Pod", "reconciler-a", spec={"containers": [{"name": "x", "image": "x"}]})
    kube_fake.make("v1", "Secret", "reconciler-b", data={})
    backend = make()
    with pytest.raises(Conflict, match="taken by a pod that is not ours"):
        backend.create(None, "a", spec=SPEC)
    with pytest.raises(Conflict, match="taken by a Secret that is not ours"):
        backend.create(None, "b", spec=SECRET)
    backend.destroy(SandboxInfo("a", ""))
    assert [pod["metadata"]["name"] for pod in kube_fake.pods()] == ["reconciler-a"]
    assert kube_fake.get("secrets", "reconciler-b") is not None


def test_a_namespace_is_made_only_when_asked_for(kube_fake: Cluster, make: Make) -> None:
    with pytest.raises(Permanent, match="no namespace new") as caught:
        make(namespace="new").create(None, "a", spec=SPEC)
    assert "create_namespace: true" in caught.value.hint
    assert make(namespace="new").observe() == []
    make(namespace="new", create_namespace=True).create(None, "a", spec=SPEC)
    assert kube_fake.get("namespaces", "new") is not None


def test_a_cluster_without_agent_sandbox_says_what_to_install(tmp_path: Path) -> None:
    from tests.support.kubernetes.cluster import running

    with running(crds=False) as cluster:
        backend = KubernetesBackend(str(cluster.kubeconfig(tmp_path / "config")), api="agent-sandbox")
        with pytest.raises(Permanent, match=r"knows no agents\.x-k8s\.io/v1beta1") as caught:
            backend.observe()
        assert "install agent-sandbox" in caught.value.hint
        assert not all(well for _, well, _ in backend.check())
        backend.close()


def test_what_a_cluster_does_not_hold_is_refused_before_anything_is_made(
    kube_fake: Cluster, make: Make
) -> None:
    backend = make()
    with pytest.raises(Unsupported, match="whichever node"):
        backend.create(None, "a", [("/srv", "/mnt", False)], spec=SPEC)
    names = replace(SPEC, network=Network(mode=NetworkMode.ALLOWLIST, allow=("pypi.org",)))
    with pytest.raises(Unsupported, match=r"pypi\.org"):
        backend.create(None, "a", spec=names)
    assert kube_fake.pods() == []
    backend.create(None, "a", spec=replace(names, unsupported_warn=True))
    assert kube_fake.get("networkpolicies.networking.k8s.io", "reconciler-a") is None
    assert "network.mode" not in (only(backend).attributes or {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api": "pods"}, "api 'pods'"),
        ({"service": "LoadBalancer"}, "ClusterIP, NodePort, none"),
        ({"service": "none", "access": "service"}, "needs a service"),
        ({"access": "node"}, "needs a service"),
        ({"prefix": "9lives"}, "prefix '9lives'"),
        ({"prefix": "much-too-long-a-prefix"}, "prefix"),
        ({"url": "http://{host}"}, "cannot be filled in"),
        ({"pull": "sometimes"}, "pull 'sometimes'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KubernetesBackend("nowhere", **options)
    assert words in f"{caught.value.message} {caught.value.hint}"


# -- what it takes


@FORMS
def test_what_all_take_is_asked_for_once(kube_fake: Cluster, make: Make, api: str) -> None:
    kube_fake.metrics.installed = True
    backend = make(api=api)
    infos = [backend.create(None, name, spec=SPEC) for name in ("a", "b")]
    for info in infos:
        assert waited(backend, info) == (True, "")
    kube_fake.metrics.taken["reconciler-b"] = {"cpu": "250m", "memory": "64Mi"}
    before = len(kube_fake.log)
    one, other = (backend.usage(info) for info in infos)
    assert one is not None
    assert (one.cores, one.memory) == (0.0015, 20 * 2**20)
    assert other is not None
    assert (other.cores, other.memory) == (0.25, 64 * 2**20)
    assert len(kube_fake.log) == before + 1
    assert ("metrics", True, "CPU and memory can be told") in backend.check()


def test_a_cluster_that_measures_nothing_leaves_blanks_and_doctor_says_so(
    kube_fake: Cluster, make: Make
) -> None:
    backend = make()
    info = backend.create(None, "a", spec=SPEC)
    assert backend.usage(info) is None
    told = {what: words for what, well, words in backend.check() if well}
    assert told["metrics"] == "no metrics API: `status` shows neither CPU nor memory"


@pytest.mark.parametrize(
    "taken",
    [{}, {"cpu": "much"}, {"cpu": "1"}, {"memory": "1Mi"}],
    ids=["nothing", "words", "no memory", "no cpu"],
)
def test_what_a_cluster_measures_and_makes_no_sense_is_a_blank(
    kube_fake: Cluster, make: Make, taken: dict[str, str]
) -> None:
    kube_fake.metrics.installed = True
    backend = make()
    info = backend.create(None, "a", spec=SPEC)
    assert waited(backend, info) == (True, "")
    kube_fake.metrics.taken["reconciler-a"] = taken
    assert backend.usage(info) is None


# -- how it is reached


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://reconciler-a.default.svc:8080"),
        ({"service": "none", "access": "proxy"}, "{server}/api/v1/namespaces/default/pods/reconciler-a:8080/proxy"),
        ({"url": "https://{name}.{namespace}.example.com:{port}/"}, "https://reconciler-a.default.example.com:8080/"),
    ],
)  # fmt: skip
def test_its_url_is_known_when_it_is_made(
    kube_fake: Cluster, make: Make, options: dict[str, Any], url: str
) -> None:
    info = make(**options).create(None, "a", spec=SPEC)
    assert info.sandbox_url == url.replace("{server}", kube_fake.url)


def test_a_node_port_is_read_back(kube_fake: Cluster, make: Make) -> None:
    backend = make(service="NodePort", node_host="node.example.com")
    info = backend.create(None, "a", spec=SPEC)
    made = kube_fake.get("services", "reconciler-a")
    assert made is not None
    port = made["spec"]["ports"][0]["nodePort"]
    assert (info.sandbox_url, info.ports) == (f"http://node.example.com:{port}", {"http": port})
    assert only(backend).info == info


def test_what_is_forwarded_to_has_no_url_and_says_the_command(kube_fake: Cluster, make: Make) -> None:
    backend = make(service="none", access="port-forward", context="fake", namespace="default")
    info = backend.create(None, "a", spec=SPEC)
    assert info.sandbox_url == ""
    assert waited(backend, info) == (True, "")
    words = only(backend).reach.split()
    assert words[0] == "kubectl"
    assert words[3:] == [
        "--context",
        "fake",
        "--namespace",
        "default",
        "port-forward",
        "pod/reconciler-a",
        "8080",
    ]
    assert make().observe()[0].reach == ""


@pytest.mark.parametrize(
    ("asked", "ready", "words"),
    [
        (Readiness(path="/healthz"), True, ""),
        (Readiness(path="/v1/sandbox", expect=500), False, "HTTP 200"),
        (Readiness(path="/" + "x" * 500), False, "HTTP 404"),
        (Readiness(kind=ProbeKind.TCP), True, ""),
    ],
    ids=["a path", "another status", "a long path", "an open port"],
)
def test_what_a_kubelet_does_not_ask_is_asked_through_the_api_server(
    kube_fake: Cluster, make: Make, asked: Readiness, ready: bool, words: str
) -> None:
    backend = make(service="none", access="port-forward")
    info = backend.create(None, "a", spec=SPEC)
    assert waited(backend, info) == (True, "")
    answer = backend.probe(info, asked, 5.0)
    assert answer is not None
    assert answer.ready == ready
    assert words in answer.detail
    assert any("portforward" in one.path for one in kube_fake.log)


@pytest.mark.parametrize("kind", [ProbeKind.HTTP, ProbeKind.TCP])
def test_a_port_that_nobody_listens_on_is_told(
    kube_fake: Cluster, make: Make, tmp_path: Path, kind: ProbeKind
) -> None:
    backend = make(service="none", access="port-forward")
    assert waited(backend, backend.create(None, "a", spec=SPEC)) == (True, "")
    pod = copy.deepcopy(kube_fake.get("pods", "reconciler-a"))
    assert pod is not None
    pod["spec"]["containers"][0]["ports"].append({"name": "spare", "containerPort": 9999})
    access = KubeApi(str(tmp_path / "kubeconfig"), namespace="default", timeout=5.0)
    answer = ask(access, Found(main=pod), Readiness(kind=kind, port="spare"), 5.0)
    access.close()
    assert answer is not None
    assert not answer.ready
    assert "failed to connect" in answer.detail


def test_who_may_not_forward_is_told(kube_fake: Cluster, make: Make) -> None:
    backend = make(service="none", access="port-forward")
    info = backend.create(None, "a", spec=SPEC)
    assert waited(backend, info) == (True, "")
    kube_fake.misbehave(refusal(403, "cannot create resource pods/portforward"), "portforward")
    answer = backend.probe(info, Readiness(path="/healthz"), 5.0)
    assert answer is not None
    assert not answer.ready
    assert "pods/portforward" in answer.detail


# -- look


def test_thousands_are_a_handful_of_calls(kube_fake: Cluster, make: Make) -> None:
    backend = make()
    backend.create(None, "a", spec=ISOLATED)
    model = kube_fake.get("pods", "reconciler-a")
    assert model is not None
    with kube_fake.storage.lock:
        for number in range(1200):
            name = f"reconciler-x{number}"
            labels = {**model["metadata"]["labels"], "sandbox-reconciler/sandbox-id": f"x{number}"}
            metadata = {
                **model["metadata"],
                "name": name,
                "labels": labels,
                "uid": f"u{number}",
                "annotations": {},
            }
            kube_fake.storage.put(("pods", "default", name), {**model, "metadata": metadata})
    before = len(kube_fake.log)
    assert len(backend.observe()) == 1201
    asked = [str(request) for request in kube_fake.log[before:]]
    assert len(asked) == 5, asked  # three pages of pods, one of services, one of policies
    assert all("labelSelector=sandbox-reconciler/managed-by=reconciler" in one for one in asked)


@FORMS
def test_what_a_warm_pool_owns_is_never_listed_or_touched(kube_fake: Cluster, make: Make, api: str) -> None:
    backend = make(api=api)
    info = backend.create(None, "a", spec=SPEC)
    kind = "pods" if api == "pod" else "sandboxes.agents.x-k8s.io"

    def pooled(thing: dict[str, Any]) -> None:
        thing["metadata"]["labels"]["agents.x-k8s.io/warm-pool-sandbox"] = "pool"

    kube_fake.change(kind, "reconciler-a", pooled)
    assert backend.observe() == []
    with pytest.raises(Conflict, match="belongs to a warm pool"):
        backend.destroy(info)
    assert kube_fake.get(kind, "reconciler-a") is not None


def test_a_pod_of_a_sandbox_is_not_listed_as_a_pod_of_ours(kube_fake: Cluster, make: Make) -> None:
    make(api="agent-sandbox").create(None, "a", spec=SPEC)
    eventually(kube_fake.pods, "the pod is made")
    pods = make(api="pod")
    assert pods.observe() == []
    assert pods.look("a") is None
    with pytest.raises(Conflict, match="not ours"):
        pods.create(None, "a", spec=SPEC)
    pods.destroy(SandboxInfo("a", ""))
    assert len(kube_fake.pods()) == 1


def test_where_it_looks_is_an_address_or_a_name(kube_fake: Cluster, make: Make) -> None:
    assert make(namespace="n").place() == f"{kube_fake.url} namespace n"
    assert make(namespace="n", cluster_name="prod").place() == "prod namespace n"


# -- drift, and what is put back


@FORMS
def test_what_somebody_took_away_or_changed_beside_it_is_put_back_in_place(
    kube_fake: Cluster, make: Make, api: str
) -> None:
    backend = make(api=api, service="NodePort")
    spec = replace(ISOLATED, secrets={"TOKEN": a_secret()})
    info = backend.create(None, "a", spec=spec)
    waited(backend, info)
    assert only(backend).astray == ()

    def opened(policy: dict[str, Any]) -> None:
        policy["spec"]["egress"] = [{}]

    kube_fake.change("networkpolicies.networking.k8s.io", "reconciler-a", opened)
    with kube_fake.storage.lock:
        kube_fake.storage.remove(("services", "default", "reconciler-a"))
    astray = only(backend).astray
    assert [(one.path, one.live, one.meant) for one in astray] == [
        ("service", None, "reconciler-a"), ("network.policy", "another one", "isolated"),
    ]  # fmt: skip
    assert all(one.in_place for one in astray)
    again = backend.update(info, spec)
    assert again.container_id == info.container_id
    assert only(backend).astray == ()
    with kube_fake.storage.lock:
        kube_fake.storage.remove(("networkpolicies.networking.k8s.io", "default", "reconciler-a"))
    assert [(one.path, one.live) for one in only(backend).astray] == [("network.policy", None)]


@FORMS
def test_labels_change_in_place_and_what_left_the_yaml_is_taken_off(
    kube_fake: Cluster, make: Make, api: str
) -> None:
    backend = make(api=api)
    first = replace(SPEC, labels={"team": "search", "note": "two words", "old": "x"}, thread_id="t-1")
    info = backend.create("t-1", "a", spec=first)
    kind = "pods" if api == "pod" else "sandboxes.agents.x-k8s.io"

    def touched(thing: dict[str, Any]) -> None:
        thing["metadata"]["labels"] |= {"team": "sales", "theirs": "kept"}

    kube_fake.change(kind, "reconciler-a", touched, by="kubectl-label")
    assert (only(backend).attributes or {})["labels.team"] == "sales"
    origin = backend.provenance(["a"])["a"]
    assert origin.cause is Cause.EDITED
    assert "kubectl-label changed labels.team, labels.theirs" in origin.detail
    assert origin.at is not None
    assert abs(origin.at - time.time()) < 60
    wanted = replace(
        first, labels={"team": "search", "new": "1"}, owner=replace(OWNER, generation=2), thread_id="t-2"
    )
    backend.update(info, wanted)
    seen = only(backend)
    assert seen.owner == wanted.owner
    live = seen.attributes or {}
    assert {path: value for path, value in live.items() if path.startswith("labels.") and "agents" not in path} == {
        "labels.team": "search", "labels.new": "1", "labels.theirs": "kept",
    }  # fmt: skip
    assert live["thread_id"] == "t-2"
    assert seen.info.container_id == info.container_id


def test_a_sandbox_that_somebody_suspended_goes_on(kube_fake: Cluster, make: Make) -> None:
    backend = make(api="agent-sandbox")
    info = backend.create(None, "a", spec=SPEC)
    waited(backend, info)

    def suspended(thing: dict[str, Any]) -> None:
        thing["spec"]["operatingMode"] = "Suspended"

    kube_fake.change("sandboxes.agents.x-k8s.io", "reconciler-a", suspended)
    assert only(backend).phase is Phase.PAUSED
    assert [one.path for one in only(backend).astray] == ["sandbox.operatingMode"]
    backend.update(info, SPEC)
    assert waited(backend, info) == (True, "")
    assert only(backend).astray == ()


def test_what_a_cluster_fills_in_is_no_drift(make: Make) -> None:
    spec = replace(SPEC, resources=Resources(cpu=0.5, memory=2**30, shm=2**26), environment={"A": "$(B) $$"})
    backend = make()
    backend.create(None, "a", spec=spec)
    live, declared = only(backend).attributes or {}, spec.canonical()
    assert {path for path in declared if path in live and live[path] != declared[path]} == set()


# -- waiting


@FORMS
def test_readiness_of_many_is_one_watch_and_no_question_each(
    kube_fake: Cluster, make: Make, api: str
) -> None:
    backend = make(api=api)
    made = [backend.create(None, f"a{number}", spec=SPEC) for number in range(8)]
    waited(backend, made[0])
    before = len(kube_fake.log)
    for info in made:
        assert waited(backend, info) == (True, "")
        assert backend.is_alive(info)
    asked = [str(request) for request in kube_fake.log[before:] if not request.watches and not request.lists]
    assert asked == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("image-missing", "image image-missing cannot be pulled: rpc error: code = NotFound"),
        ("fails", "exit code"),
        ("oom", "out of memory"),
        ("evicted", "evicted: The node was low on resource: memory."),
    ],
)
@FORMS
def test_what_cannot_heal_is_told_at_once_with_its_reason(
    make: Make, api: str, image: str, words: str
) -> None:
    backend = make(api=api)
    info = backend.create(None, "a", spec=replace(SPEC, image=image))

    def dead() -> str:
        answer = backend.probe(info, Readiness(), 5.0)
        assert answer is not None
        return answer.detail if answer.dead else ""

    assert words in eventually(dead, "its end", 10)


def test_a_crash_loop_is_given_up_after_the_third_end(make: Make) -> None:
    backend = make()
    info = backend.create(None, "a", spec=replace(SPEC, image="crash", restart="always"))
    ready, detail = waited(backend, info)
    assert not ready
    assert "it ends and is started again and again" in detail


def test_what_may_heal_is_waited_for_and_the_reason_told(make: Make) -> None:
    backend = make()
    info = backend.create(None, "a", spec=replace(SPEC, image="unschedulable"))

    def told() -> str:
        answer = backend.probe(info, Readiness(), 5.0)
        assert answer is not None
        assert not answer.dead
        return answer.detail

    assert "no node takes it" in eventually(told, "a reason")
    assert backend.is_alive(info)


def test_a_quota_that_is_used_up_is_tried_again_and_an_admission_that_refuses_is_not(
    kube_fake: Cluster, make: Make
) -> None:
    backend = make()
    kube_fake.make("v1", "ResourceQuota", "few", "default", spec={"hard": {"pods": "1"}})
    backend.create(None, "a", spec=SPEC)
    with pytest.raises(Transient, match="exceeded quota") as caught:
        backend.create(None, "b", spec=SPEC)
    assert "quota is used up" in caught.value.hint
    kube_fake.admission.webhooks["no-agents.example.com"] = lambda verb, thing: "no agents here"
    with pytest.raises(Permanent, match="no agents here") as refused:
        backend.create(None, "c", spec=SPEC)
    assert "policy of the cluster" in refused.value.hint


# -- what is gone


def test_what_is_gone_is_remembered_by_the_cluster(kube_fake: Cluster, make: Make) -> None:
    backend, other = make(), make()
    info = backend.create(None, "a", spec=SPEC)
    waited(backend, info)
    other.destroy(info)
    origin = backend.provenance(["a"]).get("a")
    assert origin is None or origin.cause is Cause.REMOVED
    assert other.provenance(["a"]) == {}  # its own deed


def test_another_pod_of_that_name_is_never_removed(kube_fake: Cluster, make: Make) -> None:
    backend = make()
    info = backend.create(None, "a", spec=SPEC)
    uid = str(info.container_id)
    from reconciler.errors import NotFound

    with pytest.raises(NotFound):
        backend._cluster.delete("Pod", "reconciler-a", uid="another")
    assert only(backend).info.container_id == uid


def test_a_listing_that_fails_is_never_an_empty_one(kube_fake: Cluster, make: Make) -> None:
    backend = make(timeout=2.0)
    backend.create(None, "a", spec=ISOLATED)
    for path in ("/pods", "/services", "/networkpolicies"):
        kube_fake.misbehave(refusal(500), f"{path}\\?", method="GET")
        with pytest.raises(BackendError):
            backend.observe()
        kube_fake.behave()
    assert len(backend.observe()) == 1


def test_a_404_that_is_about_no_object_is_not_its_absence(kube_fake: Cluster, make: Make) -> None:
    from tests.support.kubernetes.hostile import raw

    backend = make()
    backend.create(None, "a", spec=SPEC)
    kube_fake.misbehave(raw(404, b"<html>not here</html>", "text/html"), "/pods/")
    with pytest.raises(Unavailable):
        backend.discover("a")
