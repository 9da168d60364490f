"""What became of a pod, in words; and whether there is any use in waiting."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.backends.kubernetes.explain import NEVER_STARTED, explain, explain_sandbox
from reconciler.backends.kubernetes.order import GATE, UNFINISHED
from reconciler.model.observed import Phase
from tests.backends.kubernetes.pods import a_pod, a_sandbox, ended, running, said, waiting, warning

READY = said("Ready", "True")
UNREADY = said("Ready", "False", "ContainersNotReady")
NO_NODE = "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found."


@pytest.mark.parametrize(
    ("pod", "phase", "words", "hopeless"),
    [
        pytest.param(a_pod(), Phase.PENDING, "", False, id="nobody has looked at it yet"),
        pytest.param(a_pod("Running", running(), conditions=[READY]), Phase.READY, "", False, id="it answers"),
        pytest.param(a_pod("Running", running(), conditions=[UNREADY]), Phase.STARTING, "", False, id="it does not answer yet"),
        pytest.param(a_pod("Pending", waiting("ContainerCreating")), Phase.PENDING, "", False, id="its container is being made"),
        pytest.param(
            a_pod("Pending", waiting("InvalidImageName", "couldn't parse image name \"A B\"")),
            Phase.PENDING, "image aio is no name that an image can have: couldn't parse", True, id="a name that is none",
        ),
        pytest.param(
            a_pod("Pending", waiting("ErrImagePull", 'failed to pull and unpack image "aio": failed to resolve reference: aio: not found')),
            Phase.PENDING, "image aio cannot be pulled: failed to pull", True, id="an image that is not there",
        ),
        pytest.param(
            a_pod("Pending", waiting("ImagePullBackOff", 'Back-off pulling image "aio": ErrImagePull: pull access denied, repository does not exist')),
            Phase.PENDING, "image aio cannot be pulled", True, id="an image that is denied",
        ),
        pytest.param(
            a_pod("Pending", waiting("ErrImagePull", "dial tcp: lookup registry: i/o timeout")),
            Phase.PENDING, "i/o timeout", False, id="a registry that does not answer may answer later",
        ),
        pytest.param(
            a_pod(conditions=[said("PodScheduled", "False", "Unschedulable", NO_NODE)]),
            Phase.PENDING, f"no node takes it: {NO_NODE.rstrip('.')}; no node has that much free", False, id="a full cluster may empty",
        ),
        pytest.param(
            a_pod(conditions=[said("PodScheduled", "False", "Unschedulable", '0/1 nodes are available: persistentvolumeclaim "cache" not found.')]),
            Phase.PENDING, 'persistentvolumeclaim "cache" not found', True, id="a claim that nobody made",
        ),
        pytest.param(
            a_pod("Running", waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": {"exitCode": 1}})),
            Phase.UNREADY, "again and again, once so far: exit code 1", False, id="it crashed once",
        ),
        pytest.param(
            a_pod("Running", waiting("CrashLoopBackOff", restartCount=3, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})),
            Phase.UNREADY, "exit code 137 (SIGKILL), out of memory", True, id="it crashes for want of memory, again and again",
        ),
        pytest.param(
            a_pod("Pending", waiting("CreateContainerConfigError", 'secret "reconciler-a" not found')),
            Phase.PENDING, "not found", False, id="its secret is on its way",
        ),
        pytest.param(
            a_pod("Pending", waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")),
            Phase.PENDING, "image will run as root", True, id="root where none may be",
        ),
        pytest.param(
            a_pod("Failed", ended(128, "StartError", 'exec: "sevre": executable file not found in $PATH')),
            Phase.FAILED, "it could not be started: exec", True, id="a program that is not there",
        ),
        pytest.param(a_pod("Failed", ended(137, "OOMKilled")), Phase.FAILED, "exit code 137 (SIGKILL), out of memory", True, id="out of memory"),
        pytest.param(a_pod("Failed", ended(3)), Phase.FAILED, "exit code 3", True, id="an exit code"),
        pytest.param(a_pod("Succeeded", ended(0, "Completed")), Phase.STOPPED, "exit code 0", True, id="it ended well"),
        pytest.param(
            a_pod("Failed", reason="Evicted", message="The node was low on resource: memory."),
            Phase.FAILED, "evicted: The node was low on resource: memory.", True, id="evicted",
        ),
        pytest.param(
            a_pod("Failed", conditions=[said("DisruptionTarget", "True", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")]),
            Phase.FAILED, "its node was lost or is being emptied: Taint manager", True, id="its node was lost",
        ),
        pytest.param(a_pod("Unknown"), Phase.UNKNOWN, "its node does not answer", False, id="an unknown end is no end"),
        pytest.param(a_pod("Strange"), Phase.UNKNOWN, "'Strange'", False, id="a word that nobody knows"),
    ],
)  # fmt: skip
def test_a_pod_is_explained(pod: dict[str, Any], phase: Phase, words: str, hopeless: bool) -> None:
    told = explain(pod)
    assert (told.phase, told.hopeless) == (phase, hopeless), told
    assert words in told.detail
    assert told.detail or not words


def test_what_a_status_does_not_say_an_event_may() -> None:
    pod = a_pod("Pending", waiting("ImagePullBackOff", 'Back-off pulling image "aio"'))
    events = [
        warning("Failed", 'Failed to pull image "aio": manifest unknown'),
        warning("Failed", "Error: ImagePullBackOff"),
    ]
    assert not explain(pod).hopeless
    told = explain(pod, events)
    assert told.hopeless
    assert told.detail == 'image aio cannot be pulled: Failed to pull image "aio": manifest unknown'


@pytest.mark.parametrize(
    ("event", "words", "hopeless"),
    [
        (warning("FailedMount", 'MountVolume.SetUp failed for volume "secrets": secret "reconciler-a" not found'), "not found", False),
        (warning("FailedCreatePodSandBox", 'no runtime handler "gvisor": RunPodSandbox: runtime handler "gvisor" not found'), "gvisor", True),
        (warning("Pulled", "Pulled the image"), "", False),
    ],
)  # fmt: skip
def test_a_warning_explains_a_pod_that_cannot_begin(
    event: dict[str, Any], words: str, hopeless: bool
) -> None:
    told = explain(a_pod(), [event])
    assert words in told.detail
    assert told.hopeless is hopeless


def test_a_probe_that_fails_is_told() -> None:
    pod = a_pod("Running", running(), conditions=[UNREADY])
    told = explain(
        pod, [warning("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 401")]
    )
    assert (
        told.detail == "the kubelet's probe: Readiness probe failed: HTTP probe failed with statuscode: 401"
    )
    assert not told.hopeless


def test_what_is_being_removed_is_neither_alive_nor_gone() -> None:
    pod = a_pod("Running", running(), conditions=[READY])
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T12:34:56Z"
    assert explain(pod).phase is Phase.TERMINATING
    assert explain(pod).detail == "it is ending, and has until 12:34:56 UTC"
    pod["metadata"]["finalizers"] = ["example.test/backup"]
    assert explain(pod).detail == "it is ending; example.test/backup must let go of it first"


def test_what_an_earlier_run_left_half_made_never_started() -> None:
    pod = a_pod(conditions=[said("PodScheduled", "False", "SchedulingGated")])
    pod["spec"]["schedulingGates"] = [{"name": GATE}]
    assert (explain(pod).phase, explain(pod).detail) == (Phase.FAILED, NEVER_STARTED)
    pod["spec"]["schedulingGates"] = [{"name": "somebody/else"}]
    assert explain(pod).phase is Phase.PENDING
    assert "somebody holds it back with a scheduling gate (somebody/else)" in explain(pod).detail
    del pod["spec"]["schedulingGates"]
    assert explain(pod).detail == ""


def now(status: str, reason: str, message: str = "", generation: int = 1) -> dict[str, Any]:
    return said("Ready", status, reason, message, observedGeneration=generation)


@pytest.mark.parametrize(
    ("sandbox", "pod", "phase", "words", "hopeless"),
    [
        pytest.param(a_sandbox(now("True", "DependenciesReady")), None, Phase.READY, "", False, id="it answers"),
        pytest.param(
            a_sandbox(now("True", "DependenciesReady"), generation=2), None,
            Phase.PENDING, "has not seen it yet", False, id="ready is about what was before",
        ),
        pytest.param(a_sandbox(), None, Phase.PENDING, "", False, id="nobody has looked at it yet"),
        pytest.param(
            a_sandbox(now("False", "DependenciesNotReady", "Pod exists with phase: Pending")),
            a_pod("Pending", waiting("ErrImagePull", "aio: not found")),
            Phase.PENDING, "cannot be pulled", True, id="its pod says more",
        ),
        pytest.param(a_sandbox(now("False", "PodFailed")), a_pod("Failed", ended(3)), Phase.FAILED, "exit code 3", True, id="its pod failed"),
        pytest.param(a_sandbox(now("False", "PodFailed")), a_pod("Running", running()), Phase.STARTING, "", False, id="its pod has not said how it failed yet"),
        pytest.param(a_sandbox(now("False", "PodSucceeded")), None, Phase.STOPPED, "PodSucceeded", True, id="its pod ended"),
        pytest.param(a_sandbox(now("False", "SandboxExpired", "over")), None, Phase.STOPPED, "SandboxExpired: over", True, id="its time is over"),
        pytest.param(a_sandbox(now("False", "MultiplePods", "two")), None, Phase.FAILED, "MultiplePods: two", True, id="two pods"),
        pytest.param(
            a_sandbox(now("False", "ReconcilerError", 'pods "a" is forbidden: violates PodSecurity "restricted:latest"')), None,
            Phase.PENDING, "violates PodSecurity", True, id="its pod is refused",
        ),
        pytest.param(
            a_sandbox(now("False", "ReconcilerError", 'pods "a" is forbidden: exceeded quota: q')), None,
            Phase.PENDING, "exceeded quota", False, id="a quota may have room later",
        ),
        pytest.param(
            a_sandbox(now("False", "AdoptionConflict", "somebody's pod")), None,
            Phase.PENDING, "AdoptionConflict: somebody's pod", False, id="what may heal is waited for",
        ),
        pytest.param(a_sandbox(operatingMode="Suspended"), None, Phase.PAUSED, "somebody suspended it", False, id="suspended"),
    ],
)  # fmt: skip
def test_a_sandbox_is_explained(
    sandbox: dict[str, Any], pod: dict[str, Any] | None, phase: Phase, words: str, hopeless: bool
) -> None:
    told = explain_sandbox(sandbox, pod)
    assert (told.phase, told.hopeless) == (phase, hopeless), told
    assert words in told.detail


def test_a_sandbox_that_an_earlier_run_left_half_made_never_started() -> None:
    made = a_sandbox(operatingMode="Suspended")
    made["metadata"]["annotations"] = {UNFINISHED: "true"}
    assert explain_sandbox(made, None).detail == NEVER_STARTED
