"""What an API server does with objects: on the fake one, and on a real one where RECONCILER_TEST_KUBECONFIG names one."""

from __future__ import annotations

import re

import pytest

from tests.support.kubernetes.reach import Json, Reach


def pod(name: str = "one", **spec: object) -> Json:
    containers = [{"name": "main", "image": "example.test/sandbox:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"automountServiceAccountToken": False, "containers": containers, **spec},
    }


def secret(name: str = "one", **more: object) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"a": "Yg=="}, **more}


def refused(answer: object, code: int, reason: str) -> Json:
    body: Json = answer.json()  # type: ignore[attr-defined]
    assert (answer.status_code, body["reason"], body["code"]) == (code, reason, code), body  # type: ignore[attr-defined]
    assert (body["kind"], body["status"]) == ("Status", "Failure")
    return body


def test_discovery_names_what_is_served(kube: Reach) -> None:
    assert re.match(r"v\d", kube.ask("GET", "/version").json()["gitVersion"])
    assert kube.ask("GET", "/api").json()["versions"] == ["v1"]
    groups = {group["name"]: group["versions"] for group in kube.ask("GET", "/apis").json()["groups"]}
    assert {"groupVersion": "coordination.k8s.io/v1", "version": "v1"} in groups["coordination.k8s.io"]
    served = {one["name"]: one for one in kube.ask("GET", "/api/v1").json()["resources"]}
    assert {"pods", "pods/status", "pods/log", "pods/exec", "secrets", "services", "namespaces"} <= set(
        served
    )
    assert served["pods"]["kind"] == "Pod"
    assert (served["pods"]["namespaced"], served["namespaces"]["namespaced"]) == (True, False)
    assert "watch" in served["pods"]["verbs"]
    refused(kube.ask("GET", kube.path("things")), 404, "NotFound")
    unknown = kube.ask("GET", "/apis/agents.example.test/v1/things")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found\n")


def test_created_is_read_back_with_identity_and_revision(kube: Reach) -> None:
    made = kube.ask("POST", kube.path("secrets"), secret())
    assert made.status_code == 201, made.text
    thing = made.json()
    metadata = thing["metadata"]
    assert (metadata["name"], metadata["namespace"], thing["type"]) == ("one", kube.namespace, "Opaque")
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert int(metadata["resourceVersion"]) > 0
    assert "generation" not in metadata
    assert kube.ask("GET", kube.path("secrets", "one")).json() == thing
    refused(kube.ask("POST", kube.path("secrets"), secret()), 409, "AlreadyExists")


def test_a_generated_name_begins_as_asked(kube: Reach) -> None:
    thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "some-"}}
    names = {kube.ask("POST", kube.path("secrets"), thing).json()["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(r"some-[a-z0-9]{5}", name) for name in names)


def test_what_is_not_there_is_named(kube: Reach) -> None:
    body = refused(kube.ask("GET", kube.path("pods", "none")), 404, "NotFound")
    assert body["message"] == 'pods "none" not found'
    assert body["details"] == {"name": "none", "kind": "pods"}
    lease = refused(
        kube.ask("GET", kube.path("leases", "none", group="coordination.k8s.io/v1")), 404, "NotFound"
    )
    assert lease["message"] == 'leases.coordination.k8s.io "none" not found'
    assert lease["details"] == {"name": "none", "group": "coordination.k8s.io", "kind": "leases"}
    nowhere = kube.ask("POST", kube.path("secrets", namespace="no-such-namespace"), secret())
    assert refused(nowhere, 404, "NotFound")["message"] == 'namespaces "no-such-namespace" not found'


def test_an_update_of_an_old_revision_is_a_conflict(kube: Reach) -> None:
    thing = kube.ask("POST", kube.path("secrets"), secret()).json()
    newer = kube.ask("PUT", kube.path("secrets", "one"), {**thing, "data": {"a": "Yw=="}})
    assert newer.status_code == 200, newer.text
    assert int(newer.json()["metadata"]["resourceVersion"]) > int(thing["metadata"]["resourceVersion"])
    body = refused(kube.ask("PUT", kube.path("secrets", "one"), thing), 409, "Conflict")
    assert body["message"] == (
        'Operation cannot be fulfilled on secrets "one": the object has been modified; please apply your changes to the '
        "latest version and try again"
    )
    assert body["details"] == {"name": "one", "kind": "secrets"}


def test_an_update_that_changes_nothing_keeps_the_revision(kube: Reach) -> None:
    thing = kube.ask("POST", kube.path("secrets"), secret()).json()
    same = kube.ask("PUT", kube.path("secrets", "one"), thing).json()
    assert same["metadata"]["resourceVersion"] == thing["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("application/merge-patch+json", {"data": {"a": None, "c": "ZA=="}}),
        ("application/strategic-merge-patch+json", {"data": {"a": None, "c": "ZA=="}}),
        (
            "application/json-patch+json",
            [{"op": "remove", "path": "/data/a"}, {"op": "add", "path": "/data/c", "value": "ZA=="}],
        ),
    ],
)
def test_each_kind_of_patch_changes_what_it_says(kube: Reach, kind: str, patch: object) -> None:
    kube.ask("POST", kube.path("secrets"), secret())
    done = kube.ask("PATCH", kube.path("secrets", "one"), patch, kind=kind)
    assert (done.status_code, done.json()["data"]) == (200, {"c": "ZA=="})


def test_a_patch_may_insist_on_a_revision(kube: Reach) -> None:
    kube.ask("POST", kube.path("secrets"), secret())
    patch = {"metadata": {"resourceVersion": "1"}, "data": {"c": "ZA=="}}
    done = kube.ask("PATCH", kube.path("secrets", "one"), patch, kind="application/merge-patch+json")
    refused(done, 409, "Conflict")


def test_a_json_patch_whose_test_fails_changes_nothing(kube: Reach) -> None:
    kube.ask("POST", kube.path("secrets"), secret())
    patch = [{"op": "test", "path": "/data/a", "value": "other"}, {"op": "remove", "path": "/data/a"}]
    done = kube.ask("PATCH", kube.path("secrets", "one"), patch, kind="application/json-patch+json")
    refused(done, 422, "Invalid")
    assert kube.ask("GET", kube.path("secrets", "one")).json()["data"] == {"a": "Yg=="}


def test_a_delete_may_insist_on_identity_and_revision(kube: Reach) -> None:
    thing = kube.ask("POST", kube.path("secrets"), secret()).json()
    where = kube.path("secrets", "one")
    body = refused(kube.ask("DELETE", where, {"preconditions": {"uid": "other"}}), 409, "Conflict")
    assert f"(other) does not match the UID in record ({thing['metadata']['uid']})" in body["message"]
    refused(kube.ask("DELETE", where, {"preconditions": {"resourceVersion": "1"}}), 409, "Conflict")
    done = kube.ask("DELETE", where, {"preconditions": {"uid": thing["metadata"]["uid"]}})
    assert done.status_code == 200
    assert done.json()["status"] == "Success"
    assert done.json()["details"] == {"name": "one", "kind": "secrets", "uid": thing["metadata"]["uid"]}
    refused(kube.ask("DELETE", where), 404, "NotFound")


def test_a_finalizer_keeps_what_is_deleted_until_it_is_taken_away(kube: Reach) -> None:
    thing = secret()
    thing["metadata"]["finalizers"] = ["example.test/hold"]
    kube.ask("POST", kube.path("secrets"), thing)
    where = kube.path("secrets", "one")
    assert kube.ask("DELETE", where).status_code == 200
    held = kube.ask("GET", where).json()
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    free = {"metadata": {"finalizers": None}}
    assert kube.ask("PATCH", where, free, kind="application/merge-patch+json").status_code == 200
    refused(kube.ask("GET", where), 404, "NotFound")


def test_a_pod_without_a_node_goes_at_once_and_is_returned(kube: Reach) -> None:
    made = kube.ask("POST", kube.path("pods"), pod(schedulerName="nobody"))
    if kube.kind == "fake":
        pytest.skip("the fake scheduler takes every pod")
    gone = kube.ask("DELETE", kube.path("pods", "one"))
    assert (gone.status_code, gone.json()["kind"]) == (200, "Pod")
    assert gone.json()["metadata"]["uid"] == made.json()["metadata"]["uid"]
    refused(kube.ask("GET", kube.path("pods", "one")), 404, "NotFound")


@pytest.mark.parametrize(
    ("field", "reason", "change"),
    [
        ("spec.containers", "FieldValueRequired", {"containers": []}),
        ("spec.containers[0].image", "FieldValueRequired", {"containers": [{"name": "a"}]}),
        ("spec.containers[0].name", "FieldValueInvalid", {"containers": [{"name": "A_b", "image": "x"}]}),
        ("spec.containers[1].name", "FieldValueDuplicate", {"containers": [{"name": "a", "image": "x"}] * 2}),
        (
            "spec.containers[0].volumeMounts[0].name",
            "FieldValueNotFound",
            {"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
        ),
        (
            "spec.containers[0].resources.requests",
            "FieldValueInvalid",
            {
                "containers": [
                    {
                        "name": "a",
                        "image": "x",
                        "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
                    }
                ]
            },
        ),
        ("spec.restartPolicy", "FieldValueNotSupported", {"restartPolicy": "Sometimes"}),
    ],
)
def test_a_wrong_pod_is_refused_with_its_causes(kube: Reach, field: str, reason: str, change: Json) -> None:
    body = refused(kube.ask("POST", kube.path("pods"), pod(**change)), 422, "Invalid")
    assert body["message"].startswith('Pod "one" is invalid: ')
    assert body["details"]["kind"] == "Pod"
    causes = [(cause["field"], cause["reason"]) for cause in body["details"]["causes"]]
    assert (field, reason) in causes
    assert all(cause["message"] in body["message"] for cause in body["details"]["causes"])


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "x" * 254])
def test_a_wrong_name_is_refused(kube: Reach, name: str) -> None:
    body = refused(kube.ask("POST", kube.path("secrets"), secret(name)), 422, "Invalid")
    assert [cause["field"] for cause in body["details"]["causes"]] == ["metadata.name"]


def test_a_long_label_is_refused(kube: Reach) -> None:
    thing = secret()
    thing["metadata"]["labels"] = {"a": "x" * 64}
    body = refused(kube.ask("POST", kube.path("secrets"), thing), 422, "Invalid")
    [cause] = body["details"]["causes"]
    assert cause["field"] == "metadata.labels"
    assert "must be no more than 63 characters" in cause["message"]


def test_a_label_that_is_no_text_cannot_be_read(kube: Reach) -> None:
    thing = secret()
    thing["metadata"]["labels"] = {"a": 1}
    body = refused(kube.ask("POST", kube.path("secrets"), thing), 400, "BadRequest")
    assert (
        "cannot unmarshal" in body["message"]
        or "expects" in body["message"]
        or "ReadString" in body["message"]
    )


def test_a_pods_spec_cannot_be_changed_but_its_image_can(kube: Reach) -> None:
    thing = kube.ask("POST", kube.path("pods"), pod()).json()
    where = kube.path("pods", "one")
    image = {"spec": {"containers": [{"name": "main", "image": "example.test/sandbox:2"}]}}
    strategic = "application/strategic-merge-patch+json"
    changed = kube.ask("PATCH", where, image, kind=strategic)
    assert changed.json()["spec"]["containers"][0]["image"] == "example.test/sandbox:2"
    variable = {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "b"}]}]}}
    body = refused(kube.ask("PATCH", where, variable, kind=strategic), 422, "Invalid")
    assert (
        "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        in body["message"]
    )
    assert body["details"]["causes"][0]["reason"] == "FieldValueForbidden"
    assert thing["metadata"]["uid"] == kube.ask("GET", where).json()["metadata"]["uid"]


def test_a_type_is_checked_against_the_path(kube: Reach) -> None:
    refused(kube.ask("POST", kube.path("pods"), secret()), 400, "BadRequest")
    other = kube.ask("PUT", kube.path("secrets", "two"), secret("one"))
    assert other.status_code in (400, 404)
    elsewhere = secret()
    elsewhere["metadata"]["namespace"] = "elsewhere"
    refused(kube.ask("POST", kube.path("secrets"), elsewhere), 400, "BadRequest")
    refused(kube.ask("POST", kube.path("secrets"), kind="application/json"), 400, "BadRequest")


def test_a_dry_run_stores_nothing(kube: Reach) -> None:
    made = kube.ask("POST", kube.path("secrets"), secret(), dryRun="All")
    assert made.status_code == 201
    assert made.json()["metadata"]["uid"]
    refused(kube.ask("GET", kube.path("secrets", "one")), 404, "NotFound")


def test_status_and_spec_are_written_apart(kube: Reach) -> None:
    thing = pod()
    thing["status"] = {"phase": "Running"}
    made = kube.ask("POST", kube.path("pods"), thing).json()
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
    group = "coordination.k8s.io/v1"
    assert kube.ask("POST", kube.path("leases", group=group), lease).status_code == 201
    refused(kube.ask("GET", kube.path("leases", "l/status", group=group)), 404, "NotFound")


def test_a_quota_refuses_what_goes_beyond_it(kube: Reach) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0", "requests.cpu": "1"}},
    }
    kube.ask("POST", kube.path("resourcequotas"), quota)
    status = {**quota, "status": {"hard": quota["spec"]["hard"], "used": {"pods": "0", "requests.cpu": "0"}}}
    if kube.kind == "cluster" and not kube.nodes:  # nobody else does what the controller manager would
        done = kube.ask("PUT", kube.path("resourcequotas", "small/status"), status)
        assert done.status_code == 200, done.text
    asks = {"limits": {"cpu": "500m"}}
    body = refused(
        kube.ask("POST", kube.path("pods"), pod(containers=[{"name": "a", "image": "x", "resources": asks}])),
        403,
        "Forbidden",
    )
    assert body["message"] == (
        'pods "one" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0'
    )
    lacking = refused(kube.ask("POST", kube.path("pods"), pod()), 403, "Forbidden")
    assert lacking["message"] == 'pods "one" is forbidden: failed quota: small: must specify requests.cpu'
