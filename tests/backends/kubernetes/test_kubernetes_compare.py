"""A live object after a cluster has filled in the rest: only what was declared counts, and no amount differs by its spelling."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.backends.kubernetes.capabilities import capabilities
from reconciler.backends.kubernetes.compare import attributes, written
from reconciler.backends.kubernetes.manifests import pod
from reconciler.backends.kubernetes.pod import literal
from reconciler.backends.kubernetes.quantities import amount, cores, is_exact, of_cores, size
from reconciler.core.diff import agrees
from reconciler.model.capabilities import Support
from reconciler.model.desired import Mount, MountKind, Resources, SandboxSpec
from tests.backends.kubernetes.builders import order, specs


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1000m"), ("1Gi", "1073741824"), ("500m", "0.5"), ("1e3", "1k"), ("0.1", "100m"), ("128974848", "123Mi"), ("2.0", "2")],
)  # fmt: skip
def test_an_amount_is_the_same_however_it_is_written(one: str, other: str) -> None:
    assert amount(one) == amount(other)


@pytest.mark.parametrize("text", ["", "one", "1Xi", "--1", "1 Gi", "Gi", None, "1e9999"])
def test_what_is_no_amount_is_none(text: object) -> None:
    assert amount(text) is None


@given(st.integers(1, 10**8))
def test_cores_come_back_as_they_were_said(thousandths: int) -> None:
    value = thousandths / 1000
    assert is_exact(value)
    assert cores(of_cores(value)) == value


def test_what_is_finer_than_a_thousandth_is_refused() -> None:
    able = capabilities()
    assert able.support("resources.cpu", 0.0005) is Support.REFUSED
    assert "thousandths" in able.reason("resources.cpu", 0.0005)
    assert able.support("resources.cpu", 0.5) is Support.ENFORCED


def defaulted(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a server makes of a new pod: defaults, its own spelling, its own labels, an injected sidecar, a kubelet's label."""
    made = copy.deepcopy(manifest)
    spec, container = made["spec"], made["spec"]["containers"][0]
    spec |= {
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "priority": 0,
        "nodeName": "n",
    }
    spec |= {"serviceAccountName": "default", "tolerations": [{"key": "node.kubernetes.io/not-ready"}]}
    container |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
    for amounts in (container.get("resources") or {}).values():
        if "memory" in amounts and int(amounts["memory"]) % 1024 == 0:
            amounts["memory"] = f"{int(amounts['memory']) // 1024}Ki"
        if "cpu" in amounts:
            amounts["cpu"] = f"{round((cores(amounts['cpu']) or 0) * 1000)}m"
    spec["containers"].insert(
        0, {"name": "istio-proxy", "image": "proxy", "env": [{"name": "A", "value": "x"}]}
    )
    for variable in container.get("env") or []:
        if variable.get("value") == "":
            del variable["value"]  # an empty one is not written
    for held in container.get("volumeMounts") or []:
        if held.get("readOnly") is False:
            del held["readOnly"]
    made["metadata"]["labels"] = {**made["metadata"]["labels"], "topology.kubernetes.io/zone": "z"}
    return made


@given(specs)
def test_what_a_server_fills_in_is_no_difference(spec: SandboxSpec) -> None:
    made = defaulted(pod(order(spec)))
    live = attributes(made["metadata"], made["spec"])
    assert {
        path for path, value in spec.canonical().items() if path in live and not agrees(live[path], value)
    } == set()


@pytest.mark.parametrize(
    ("change", "path", "live"),
    [
        pytest.param(lambda pod: pod["spec"]["containers"][0].update(image="other"), "image", "other", id="image"),
        pytest.param(lambda pod: pod["metadata"]["labels"].update(team="sales"), "labels.team", "sales", id="label"),
        pytest.param(
            lambda pod: pod["spec"]["containers"][0]["resources"]["limits"].update(memory="2Gi"),
            "resources.memory", 2**31, id="memory",
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
            "security.no_new_privileges", False, id="privileges",
        ),
        pytest.param(lambda pod: pod["spec"]["volumes"][0]["emptyDir"].update(sizeLimit="2Mi"), "mounts./c.size", 2**21, id="size"),
    ],
)  # fmt: skip
def test_what_somebody_changed_is_one(change: Any, path: str, live: object) -> None:
    spec = SandboxSpec(
        labels={"team": "search"},
        resources=Resources(memory=2**30),
        mounts=(Mount(kind=MountKind.TMPFS, target="/c", size=2**20),),
    )
    made = pod(order(spec))
    change(made)
    assert attributes(made["metadata"], made["spec"])[path] == live


@given(st.text("$(){}AB", max_size=12))
def test_a_dollar_arrives_as_it_was_written(text: str) -> None:
    assert written(literal(text)) == text
    assert expanded(literal(text)) == text


def expanded(text: str) -> str:
    """As a kubelet reads it, where the variables A and B are set."""
    made, at = "", 0
    while at < len(text):
        if text[at] == "$" and at + 1 < len(text):
            following = text[at + 1]
            if following == "$":
                made, at = made + "$", at + 2
                continue
            if following == "(" and ")" in text[at:]:
                end = text.index(")", at)
                name = text[at + 2 : end]
                made += "SET" if name in ("A", "B") else f"$({name})"
                at = end + 1
                continue
        made, at = made + text[at], at + 1
    return made


def test_a_size_is_whole() -> None:
    assert size("1.5Gi") == 3 * 2**29
    assert size("100m") == 1
