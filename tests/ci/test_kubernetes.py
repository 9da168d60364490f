"""`examples/kubernetes/` by the JSON Schemas that Kubernetes publishes, by its restricted Pod standard, and by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import __version__
from tests.ci.lab import SECRET
from tests.ci.pods import KUBERNETES, Thing, manifests, pod_of
from tests.support.cli import Folder
from tests.support.required import skip_unless

VERSIONS = ("1.27", "")  # the oldest that has what is used here, and the newest that is known
WORKLOADS = [("Deployment", "reconciler-watch"), ("CronJob", "reconciler-drift")]
each_workload = pytest.mark.parametrize("workload", WORKLOADS, ids=" ".join)


def check(manifest: Thing, version: str = "") -> None:
    """Unknown keys are errors."""
    try:
        from kubernetes_validate.utils import latest_version, validate
    except ImportError:
        skip_unless(False, "kubernetes-validate is not installed (the group `test`)")
    validate(manifest, version or latest_version(), strict=True)


def test_nothing_is_missing() -> None:
    assert {kind for kind, _ in manifests()} == {
        "Namespace", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Deployment", "PodDisruptionBudget", "CronJob",
        "Service", "NetworkPolicy",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version or "newest")
@pytest.mark.parametrize("which", sorted(manifests()), ids=" ".join)
def test_a_manifest_is_valid(which: tuple[str, str], version: str) -> None:
    check(manifests()[which], version)


def _keys(thing: Any) -> list[dict[str, Any]]:
    """Every mapping in it whose keys Kubernetes knows."""
    if isinstance(thing, list):
        return [found for each in thing for found in _keys(each)]
    if not isinstance(thing, dict):
        return []
    free = {"labels", "matchLabels", "annotations", "data", "requests", "limits", "selector"}
    return [thing, *(found for key, each in thing.items() if key not in free for found in _keys(each))]


@pytest.mark.parametrize("which", sorted(manifests()), ids=" ".join)
def test_a_misspelt_key_is_noticed_wherever_it_is(which: tuple[str, str]) -> None:
    for index in range(len(_keys(manifests()[which]))):
        manifest = manifests()[which]
        _keys(manifest)[index]["misspelt"] = "?"
        with pytest.raises(Exception, match="misspelt"):
            check(manifest)


@each_workload
def test_a_pod_is_of_the_restricted_standard(workload: tuple[str, str]) -> None:
    pod = pod_of(manifests()[workload])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all({"configMap", "secret", "emptyDir"} & set(volume) for volume in pod["volumes"])
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@each_workload
def test_a_pod_has_the_token_of_an_account_that_may_keep_the_state_and_nothing_else(
    workload: tuple[str, str],
) -> None:
    pod = pod_of(manifests()[workload])
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("reconciler", True)
    assert manifests()[("ServiceAccount", "reconciler")]["automountServiceAccountToken"] is False
    binding, role = (
        manifests()[("RoleBinding", "reconciler-state")],
        manifests()[("Role", "reconciler-state")],
    )
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(who["kind"], who["name"]) for who in binding["subjects"]] == [("ServiceAccount", "reconciler")]
    asked = {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}
    assert asked == {
        "secrets": {"get", "list", "create", "update", "delete"},
        "leases": {"get", "create", "update"},
    }
    assert not [kind for kind, _ in manifests() if kind.startswith("ClusterRole")]


def test_of_two_one_leads_and_an_update_never_takes_both() -> None:
    deployment = manifests()[WORKLOADS[0]]["spec"]
    [container] = pod_of(manifests()[WORKLOADS[0]])["containers"]
    assert deployment["replicas"] == 2
    assert "--leader-elect" in container["args"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    budget = manifests()[("PodDisruptionBudget", "reconciler-watch")]["spec"]
    assert budget["selector"] == deployment["selector"]
    [spread] = pod_of(manifests()[WORKLOADS[0]])["topologySpreadConstraints"]
    assert spread["labelSelector"] == deployment["selector"]
    assert manifests()[WORKLOADS[1]]["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_state_is_where_the_role_is() -> None:
    text = manifests()[("ConfigMap", "sandboxes")]["data"]["sandboxes.yaml"]
    state = yaml.safe_load(text)["state"]
    role = manifests()[("Role", "reconciler-state")]["metadata"]
    assert state == {"store": "kubernetes", "namespace": role["namespace"]}


@each_workload
def test_no_secret_is_written_into_a_manifest(workload: tuple[str, str]) -> None:
    [container] = pod_of(manifests()[workload])["containers"]
    assert all(set(each["valueFrom"]) == {"secretKeyRef"} for each in container["env"])
    assert "Secret" not in {kind for kind, _ in manifests()}


@each_workload
def test_the_image_is_of_this_version(workload: tuple[str, str]) -> None:
    [container] = pod_of(manifests()[workload])["containers"]
    assert container["image"].endswith(f"/sandbox-reconciler:{__version__}")


def test_what_selects_pods_selects_these() -> None:
    labels = manifests()[WORKLOADS[0]]["spec"]["template"]["metadata"]["labels"]
    service = manifests()[("Service", "reconciler-watch")]["spec"]
    assert service["selector"].items() <= labels.items()
    policy = manifests()[("NetworkPolicy", "reconciler")]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    [container] = pod_of(manifests()[WORKLOADS[0]])["containers"]
    [port] = container["ports"]
    assert service["ports"][0]["targetPort"] == policy["ingress"][0]["ports"][0]["port"] == port["name"]
    assert container["args"][-1] == f"0.0.0.0:{port['containerPort']}"


@pytest.mark.parametrize("words", [["validate"], ["fmt", "--check"]], ids=" ".join)
def test_the_configuration_passes(words: list[str], tmp_path: Path) -> None:
    here = Folder(tmp_path, {"API_TOKEN": SECRET})
    here.write(manifests()[("ConfigMap", "sandboxes")]["data"]["sandboxes.yaml"])
    here(*words)


def test_every_file_is_listed_in_its_readme() -> None:
    page = (KUBERNETES / "README.md").read_text(encoding="utf-8")
    assert all(f"[`{file.name}`]({file.name})" in page for file in KUBERNETES.glob("*.yaml"))
