"""What a cluster is told: every manifest by the published schemas, and by rule."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.backends.containers import owner_of
from reconciler.backends.kubernetes.compare import attributes
from reconciler.backends.kubernetes.labelling import fits, free, own
from reconciler.backends.kubernetes.manifests import pod, sandbox, secret, service
from reconciler.backends.kubernetes.order import GATE, Order
from reconciler.backends.kubernetes.policies import destination, policy
from reconciler.core.diff import agrees
from reconciler.model.desired import Network, NetworkMode, Owner, Port, SandboxSpec, Security
from tests.backends.kubernetes.builders import OWNER, OWNING, a_secret, order, specs
from tests.backends.kubernetes.schemas import NEWEST, OLDEST, check


def emitted(made: Order) -> Iterator[dict[str, Any]]:
    """Everything that this order may bring to a cluster."""
    yield sandbox(made) if made.agent_sandbox else pod(made)
    if "Secret" in made.beside:
        yield secret(made, OWNING)
    if "Service" in made.beside:
        yield service(made, OWNING)
    if "NetworkPolicy" in made.beside:
        yield policy(made, OWNING)


SERVICES = st.sampled_from(["none", "ClusterIP", "NodePort"])


@settings(max_examples=60)
@given(specs, st.booleans(), SERVICES, st.sampled_from([NEWEST, OLDEST]))
def test_whatever_is_asked_for_every_manifest_is_what_kubernetes_publishes(
    spec: SandboxSpec, agent_sandbox: bool, kind: str, version: str
) -> None:
    for manifest in emitted(order(spec, agent_sandbox=agent_sandbox, service=kind, expires=1.8e9)):
        check(manifest, version)
        for key, value in manifest["metadata"]["labels"].items():
            assert fits(key, value)


def test_a_misspelt_key_is_noticed() -> None:
    made = pod(order())
    made["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    with pytest.raises(AssertionError, match="imagePullPolcy"):
        check(made)
    held = sandbox(order(agent_sandbox=True))
    held["spec"]["operatingmode"] = "Running"
    with pytest.raises(AssertionError, match="operatingmode"):
        check(held)


@settings(max_examples=150)
@given(specs, st.booleans())
def test_what_was_put_there_is_read_back_as_it_was_declared(spec: SandboxSpec, agent_sandbox: bool) -> None:
    made = order(spec, agent_sandbox=agent_sandbox)
    manifest = sandbox(made) if agent_sandbox else pod(made)
    inner = manifest["spec"]["podTemplate"]["spec"] if agent_sandbox else manifest["spec"]
    live, declared = attributes(manifest["metadata"], inner), spec.canonical()
    differing = {
        path: (live[path], declared[path])
        for path in live
        if path in declared and not agrees(live[path], declared[path])
    }
    assert differing == {}
    held = {
        path
        for path in declared
        if not path.startswith(("secrets.", "network.")) and not path.endswith(".bind")
    }
    held -= {f"environment.{name}" for name in spec.secrets}  # the secret of that name is what arrives
    assert held <= set(live)


@given(st.text(max_size=70), st.text(min_size=1, max_size=70), st.booleans())
def test_an_owner_comes_back_whatever_its_names_are(stack: str, address: str, protected: bool) -> None:
    owner = Owner(
        stack=stack or "s",
        lineage="0f" * 16,
        address=address,
        generation=3,
        spec_hash="a" * 32,
        protected=protected,
    )  # type: ignore[arg-type]
    metadata = pod(order(SandboxSpec(owner=owner)))["metadata"]
    assert owner_of(own(metadata)) == owner


def test_labels_that_no_cluster_takes_are_kept_all_the_same() -> None:
    labels = {"team": "search", "a/b/c": "x", "note": "two words", "long": "x" * 64}
    metadata = pod(order(SandboxSpec(labels=labels)))["metadata"]
    assert {key: metadata["labels"].get(key) for key in labels} == {
        "team": "search", "a/b/c": None, "note": None, "long": None,
    }  # fmt: skip
    assert free(metadata) == labels


def test_what_is_not_declared_gets_the_hardened_default() -> None:
    spec = pod(order())["spec"]
    container = spec["containers"][0]
    assert {key: value for key, value in spec.items() if key != "containers"} == {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": False,
    }
    assert container["readinessProbe"]["httpGet"] == {"path": "/v1/sandbox", "port": 8080, "scheme": "HTTP"}
    assert not {"env", "resources", "volumeMounts", "command", "args"} & set(container)


def test_a_numbered_user_is_no_root() -> None:
    made = pod(order(SandboxSpec(security=Security(user="1000:1001"))))["spec"]["securityContext"]
    assert (made["runAsUser"], made["runAsGroup"], made["runAsNonRoot"]) == (1000, 1001, True)
    assert (
        pod(order(SandboxSpec(security=Security(user="0"))))["spec"]["securityContext"]["runAsNonRoot"]
        is False
    )


@pytest.mark.parametrize("agent_sandbox", [False, True], ids=["pod", "agent-sandbox"])
def test_a_secret_is_in_its_secret_alone_and_the_sandbox_waits_for_it(agent_sandbox: bool) -> None:
    spec = SandboxSpec(
        secrets={"A": a_secret("canary-1"), "B": a_secret("canary-2", "environment")}, owner=OWNER
    )
    made = order(spec, agent_sandbox=agent_sandbox)
    first, held = list(emitted(made))
    encoded = {name: base64.b64encode(f"canary-{n}".encode()).decode() for name, n in (("A", 1), ("B", 2))}
    text = json.dumps(first)
    assert not [value for value in ("canary", *encoded.values()) if value in text]
    assert held["data"] == encoded
    assert held["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "reconciler-a", "uid": "u-1"}
    ]
    inner = first["spec"]["podTemplate"]["spec"] if agent_sandbox else first["spec"]
    assert ("schedulingGates" in inner) is not agent_sandbox
    assert first["spec"].get("operatingMode") == ("Suspended" if agent_sandbox else None)
    assert inner["containers"][0]["env"] == [
        {"name": "A_FILE", "value": "/run/secrets/A"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "reconciler-a", "key": "B"}}},
    ]
    assert "canary" not in repr(made)


def test_what_waits_for_nothing_starts_at_once() -> None:
    assert "schedulingGates" not in pod(order(service="ClusterIP"))["spec"]
    assert sandbox(order(agent_sandbox=True))["spec"]["operatingMode"] == "Running"
    isolated = SandboxSpec(network=Network(mode=NetworkMode.ISOLATED))
    assert pod(order(isolated))["spec"]["schedulingGates"] == [{"name": GATE}]


def test_isolated_lets_nothing_in_or_out() -> None:
    made = policy(order(SandboxSpec(network=Network(mode=NetworkMode.ISOLATED))), OWNING)
    assert made["spec"] == {
        "podSelector": {"matchLabels": {"sandbox-reconciler/sandbox-id": "a"}},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_an_allow_list_names_addresses_and_ports() -> None:
    allow = ("10.0.0.0/8", "1.2.3.4:443", "[fd00::1]:53", "fd00::/8")
    made = policy(order(SandboxSpec(network=Network(mode=NetworkMode.ALLOWLIST, allow=allow))), OWNING)
    assert made["spec"]["policyTypes"] == ["Egress"]
    assert made["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "1.2.3.4/32"}}], "ports": [{"port": 443, "protocol": "TCP"}]},
        {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        {"to": [{"ipBlock": {"cidr": "fd00::1/128"}}], "ports": [{"port": 53, "protocol": "TCP"}]},
        {"to": [{"ipBlock": {"cidr": "fd00::/8"}}]},
    ]


@pytest.mark.parametrize("entry", ["pypi.org", "pypi.org:443", "10.0.0.1:0", "10.0.0.1:70000", "300.1.1.1"])
def test_a_name_is_no_destination(entry: str) -> None:
    with pytest.raises(ValueError, match=re.escape(entry)):
        destination(entry)


def test_a_service_leads_to_each_container_port_once() -> None:
    ports = (
        Port(name="http", container=80, host=30080),
        Port(name="same", container=80),
        Port(name="db", container=5432),
    )
    made = service(order(SandboxSpec(ports=ports), service="NodePort"), OWNING)["spec"]
    assert made["selector"] == {"sandbox-reconciler/sandbox-id": "a"}
    assert [(port["name"], port["port"], port.get("nodePort")) for port in made["ports"]] == [
        ("http", 80, 30080), ("db", 5432, None),
    ]  # fmt: skip
