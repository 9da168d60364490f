"""What became of a pod, in words: its phase, whether it answers, and why not. Pure.

What cannot heal by itself is said to be hopeless, so that nobody waits for it until their time is over. What may heal, as
a full cluster that another pod leaves, is waited for, and the reason told meanwhile.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct

from reconciler.backends.kubernetes.order import CONTAINER, GATE, UNFINISHED
from reconciler.model.observed import Phase

NEVER_STARTED = "made, but never started"
CRASHES = 3  # ends after which a pod that is started again and again is given up
_LONGEST = 300  # characters of what a cluster says

Json = Mapping[str, Any]

# What a registry says when no further attempt can help. A cluster says it in a status, or in an event alone.
_NO_IMAGE = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|no match for platform|no matching manifest|denied|"
    r"unauthori[sz]ed|authorization failed|authentication required|no basic auth|invalid reference|"
    r"couldn't parse image|failed to apply default image",
    re.IGNORECASE,
)
_BROKEN_CONTAINER = re.compile(
    r"executable file not found|no such file or directory|permission denied|not a directory|is a directory|"
    r"runasnonroot|run as root|exec format error|unable to find user|invalid|must be specified|read-only file system",
    re.IGNORECASE,
)
_OURS_TO_COME = re.compile(r'(secret|configmap) ".*" not found', re.IGNORECASE)
_NO_CLAIM = re.compile(r"persistentvolumeclaim \"[^\"]*\" not found", re.IGNORECASE)
_REFUSED = re.compile(
    r"denied the request|violates PodSecurity|is forbidden: (?!exceeded quota)|is invalid:|unable to validate against",
    re.IGNORECASE,
)
_HINTS = (
    (re.compile(r"insufficient (cpu|memory)", re.IGNORECASE), "no node has that much free"),
    (re.compile(r"untolerated taint", re.IGNORECASE), "nodes are kept for others"),
)
_FAIL_FAST = frozenset(
    {"PodFailed", "PodSucceeded", "MultiplePods", "InvalidMetadata", "EnvVarsInjectionRejected"}
    | {"VolumeClaimTemplatesError", "ClaimExpired", "SandboxExpired", "TemplateNotFound", "WarmPoolNotFound"}
)


class Explained(Struct, frozen=True, kw_only=True):
    """`detail` says for people what the phase does not. `hopeless`: it will never answer."""

    phase: Phase
    detail: str = ""
    hopeless: bool = False

    @property
    def ready(self) -> bool:
        return self.phase is Phase.READY


def explain(pod: Json, events: Sequence[Json] = ()) -> Explained:
    """Of a pod as the cluster shows it. `events` are the warnings about it, oldest first, as far as they were asked for."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return Explained(phase=Phase.TERMINATING, detail=ending(metadata), hopeless=True)
    match status.get("phase"):
        case "Succeeded":
            return Explained(phase=Phase.STOPPED, detail=_end(status) or "exit code 0", hopeless=True)
        case "Failed":
            return Explained(
                phase=Phase.FAILED, detail=_end(status) or "nothing says how it ended", hopeless=True
            )
        case "Unknown":
            return Explained(phase=Phase.UNKNOWN, detail=_told("its node does not answer", status))
        case "Running" | "Pending" | None:
            return _living(pod, status, events)
        case other:
            return Explained(phase=Phase.UNKNOWN, detail=f"the cluster calls it {other!r}")


def _living(pod: Json, status: Json, events: Sequence[Json]) -> Explained:
    waiting = _waiting(status, events)
    if waiting is not None:
        return waiting
    if status.get("phase") != "Running":
        return _pending(pod, status, events)
    if condition(status, "Ready").get("status") == "True":
        return Explained(phase=Phase.READY if _is_probed(pod) else Phase.STARTING)
    if not _is_running(status):
        return Explained(phase=Phase.STARTING)
    warning = _warning(events, ("Unhealthy",))
    return Explained(phase=Phase.STARTING, detail=f"the kubelet's probe: {warning}" if warning else "")


def ending(metadata: Json) -> str:
    """Of an object that somebody removes: what it waits for."""
    holders = metadata.get("finalizers")
    if holders:
        return f"it is ending; {', '.join(holders)} must let go of it first"
    return f"it is ending, and has until {str(metadata['deletionTimestamp'])[11:19]} UTC"


def _waiting(status: Json, events: Sequence[Json]) -> Explained | None:
    """What keeps its containers from running; None when nothing does that says so."""
    for container in _containers(status):
        state = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(state.get("reason") or ""), _short(state.get("message"))
        match reason:
            case "InvalidImageName":
                return _hopeless(
                    f"{_image(container)} is no name that an image can have: {message or reason}"
                )
            case "ErrImageNeverPull":
                return _hopeless(f"{_image(container)} is not on its node, and is never pulled there")
            case "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable":
                return _no_image(container, reason, message, events)
            case "CrashLoopBackOff":
                return _crashing(container)
            case "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError":
                told = message or _warning(events, ("Failed",)) or reason
                broken = bool(_BROKEN_CONTAINER.search(told)) and not _OURS_TO_COME.search(told)
                return Explained(
                    phase=Phase.PENDING, detail=f"its container cannot be made: {told}", hopeless=broken
                )
    return None


def _no_image(container: Json, reason: str, message: str, events: Sequence[Json]) -> Explained:
    pulled = _warning(events, ("Failed",), containing="pull")
    told = message if message and not message.startswith("Back-off") else pulled or message or reason
    detail = f"{_image(container)} cannot be pulled: {told}"
    return Explained(
        phase=Phase.PENDING, detail=detail, hopeless=bool(_NO_IMAGE.search(f"{message} {pulled}"))
    )


def _crashing(container: Json) -> Explained:
    restarts = int(container.get("restartCount") or 0)
    last = (container.get("lastState") or {}).get("terminated") or {}
    told = _ended(last) or "nothing says why"
    often = "once" if restarts == 1 else f"{restarts} times"
    detail = f"it ends and is started again and again, {often} so far: {told}"
    return Explained(phase=Phase.UNREADY, detail=detail, hopeless=restarts >= CRASHES)


def _pending(pod: Json, status: Json, events: Sequence[Json]) -> Explained:
    gates = [str(gate.get("name")) for gate in (pod.get("spec") or {}).get("schedulingGates") or ()]
    if GATE in gates:
        return Explained(phase=Phase.FAILED, detail=NEVER_STARTED)
    scheduled = condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        told = _short(scheduled.get("message")) or str(scheduled.get("reason") or "")
        if (
            scheduled.get("reason") == "SchedulingGated"
        ):  # which a status says for a moment longer than it is so
            detail = f"somebody holds it back with a scheduling gate ({', '.join(gates)})" if gates else ""
            return Explained(phase=Phase.PENDING, detail=detail)
        return Explained(
            phase=Phase.PENDING,
            detail=f"no node takes it: {told.rstrip('.')}{_hint(told)}",
            hopeless=bool(_NO_CLAIM.search(told)),
        )
    unplaced = _warning(events, ("FailedScheduling",))  # told a moment before the status says it
    if unplaced and scheduled.get("status") != "True":
        return Explained(
            phase=Phase.PENDING, detail=f"no node takes it: {unplaced.rstrip('.')}{_hint(unplaced)}"
        )
    warning = _warning(events, ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"))
    if warning:
        lasting = "runtime handler" in warning or "hostPath type check failed" in warning
        return Explained(phase=Phase.PENDING, detail=f"it cannot begin: {warning}", hopeless=lasting)
    return Explained(phase=Phase.PENDING)


def _hint(told: str) -> str:
    found = [hint for pattern, hint in _HINTS if pattern.search(told)]
    return f"; {', and '.join(found)}" if found else ""


def explain_sandbox(sandbox: Json, pod: Json | None, events: Sequence[Json] = ()) -> Explained:
    """Of a `Sandbox` of agent-sandbox and its pod. Its `Ready` counts only when it is about the present specification."""
    metadata, spec = sandbox["metadata"], sandbox.get("spec") or {}
    if metadata.get("deletionTimestamp"):
        return Explained(phase=Phase.TERMINATING, detail=ending(metadata), hopeless=True)
    suspended = spec.get("operatingMode") == "Suspended"
    if suspended and UNFINISHED in (metadata.get("annotations") or {}):
        return Explained(phase=Phase.FAILED, detail=NEVER_STARTED)
    if suspended:
        return Explained(phase=Phase.PAUSED, detail="somebody suspended it")
    ready = condition(sandbox.get("status") or {}, "Ready")
    reason, message = str(ready.get("reason") or ""), _short(ready.get("message"))
    current = ready.get("observedGeneration") in (None, metadata.get("generation"))
    if not current:
        return Explained(phase=Phase.PENDING, detail="its controller has not seen it yet")
    of_pod = None if pod is None or pod["metadata"].get("deletionTimestamp") else explain(pod, events)
    if reason in ("PodFailed", "PodSucceeded") and of_pod is not None and not of_pod.phase.is_dead:
        return of_pod  # what the pod itself says of its end is on its way
    if reason in _FAIL_FAST or (of_pod is not None and of_pod.phase.is_dead):
        return _ended_sandbox(reason, message, of_pod)
    if of_pod is not None and (of_pod.hopeless or of_pod.detail):
        return of_pod
    if ready.get("status") == "True":
        return Explained(phase=Phase.READY if _is_probed({"spec": _template(spec)}) else Phase.STARTING)
    if message and reason not in ("DependenciesNotReady", ""):
        hopeless = reason == "ReconcilerError" and bool(_REFUSED.search(message))
        return Explained(
            phase=Phase.PENDING, detail=f"its controller says {reason}: {message}", hopeless=hopeless
        )
    return of_pod if of_pod is not None and not of_pod.ready else Explained(phase=Phase.PENDING)


def _ended_sandbox(reason: str, message: str, of_pod: Explained | None) -> Explained:
    told = of_pod.detail if of_pod is not None and of_pod.phase.is_dead else ""
    detail = told or (f"{reason}: {message}" if message else reason)
    return Explained(
        phase=Phase.STOPPED if reason in ("PodSucceeded", "SandboxExpired", "ClaimExpired") else Phase.FAILED,
        detail=detail,
        hopeless=True,
    )


def _template(spec: Json) -> Json:
    return (spec.get("podTemplate") or {}).get("spec") or {}


def condition(status: Json, kind: str) -> Json:
    """The condition of that type; {} when there is none."""
    for one in status.get("conditions") or ():
        if one.get("type") == kind:
            found: Json = one
            return found
    return {}


def _end(status: Json) -> str:
    """How a pod that ended did so: what its node or the cluster says, else how its container ended."""
    reason, message = status.get("reason"), _short(status.get("message"))
    if reason:
        return f"{_REASONS.get(str(reason), str(reason))}{f': {message}' if message else ''}"
    if disruption(status):
        return disruption(status)
    ends = [_ended((one.get("state") or {}).get("terminated") or {}) for one in _containers(status)]
    return next((end for end in ends if end), message)


def disruption(status: Json) -> str:
    """Why the cluster itself ends a pod; "" when it does not."""
    noted = condition(status, "DisruptionTarget")
    if noted.get("status") != "True":
        return ""
    reason, message = str(noted.get("reason")), _short(noted.get("message"))
    return f"{_DISRUPTIONS.get(reason, reason)}{f': {message}' if message else ''}"


_DISRUPTIONS = {
    "DeletionByPodGC": "its node is gone",
    "DeletionByTaintManager": "its node was lost or is being emptied",
    "EvictionByEvictionAPI": "it was evicted, as `kubectl drain` does",
    "PreemptionByScheduler": "it had to make room for another pod",
    "TerminationByKubelet": "its node ended it",
}
_REASONS = {
    "Evicted": "it was evicted",
    "NodeLost": "its node is lost",
    "Shutdown": "its node was shut down",
    "Terminated": "its node was shut down",
    "Preempting": "it had to make room for another pod",
    "Preempted": "it had to make room for another pod",
    "DeadlineExceeded": "its time was over",
    "NodeAffinity": "its node does not take it any more",
}


def _ended(state: Json) -> str:
    """How a container ended; "" when it did not."""
    if not state:
        return ""
    code = state.get("exitCode")
    reason, message = str(state.get("reason") or ""), _short(state.get("message"))
    told = exit_text(int(code)) if isinstance(code, int) else ""
    if reason == "OOMKilled":
        return f"{told}, out of memory" if told else "out of memory"
    if reason in ("StartError", "ContainerCannotRun"):
        return f"it could not be started: {message or told}"
    return f"{told}: {message}" if message and told else told or message or reason


def exit_text(code: int) -> str:
    if code > 128:
        with suppress(ValueError):
            return f"exit code {code} ({signal.Signals(code - 128).name})"
    return f"exit code {code}"


def termination(status: Json) -> Json:
    """The state of the container that ended, the last one that did; {} when none has."""
    for container in _containers(status):
        for place in ("state", "lastState"):
            found = (container.get(place) or {}).get("terminated")
            if found:
                ended: Json = found
                return ended
    return {}


def _containers(status: Json) -> Iterable[Json]:
    return (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def has_begun(pod: Json) -> bool:
    """Whether a container of it runs."""
    return _is_running(pod.get("status") or {})


def _is_running(status: Json) -> bool:
    return any("running" in (one.get("state") or {}) for one in _containers(status))


def _is_probed(pod: Json) -> bool:
    containers = (pod.get("spec") or {}).get("containers") or ()
    return any(one.get("name") == CONTAINER and "readinessProbe" in one for one in containers)


def _image(container: Json) -> str:
    return f"image {container.get('image') or '?'}"


def _warning(events: Sequence[Json], reasons: Sequence[str], *, containing: str = "") -> str:
    """The last warning of one of these reasons; "" when there is none."""
    for event in reversed(events):
        message = _short(event.get("message") or event.get("note"))
        if event.get("reason") in reasons and containing in message:
            return message
    return ""


def _hopeless(detail: str) -> Explained:
    return Explained(phase=Phase.PENDING, detail=detail, hopeless=True)


def _told(what: str, status: Json) -> str:
    message = _short(status.get("message"))
    return f"{what}: {message}" if message else what


def _short(message: object) -> str:
    text = " ".join(str(message or "").split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
