"""What a provisioner says about a sandbox, in our terms. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reconciler.backends.answers import shown
from reconciler.backends.trust import is_address
from reconciler.errors import Permanent
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

SANDBOX_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?", re.ASCII)
_PHASES: Mapping[str, tuple[Phase, str]] = {
    "Pending": (Phase.PENDING, ""),
    "Running": (Phase.STARTING, ""),  # up, not known to answer
    "Succeeded": (Phase.STOPPED, "its pod ended"),
    "Failed": (Phase.FAILED, "its pod failed"),
    "NotFound": (Phase.FAILED, "it has a service and no pod"),
    "Unknown": (Phase.UNKNOWN, "the provisioner cannot tell how its pod is"),
}


def listed(data: object, base: str) -> tuple[ObservedSandbox, ...]:
    """A listing, sorted by id. Raises Permanent for one that is none, and for an entry without a name: any sandbox may
    be meant, and what is not seen is not gone."""
    entries = data.get("sandboxes") if isinstance(data, Mapping) else None
    if not isinstance(entries, list):
        raise Permanent(
            f"{base} lists its sandboxes as {shown(data)}, where {{sandboxes: [...]}} belongs",
            hint="check what is at `url`",
        )
    found: dict[str, ObservedSandbox] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("sandbox_id") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or SANDBOX_ID.fullmatch(name) is None:
            raise Permanent(
                f"{base} lists {len(entries)} sandboxes, and number {number} has no usable id: {shown(entry)}",
                hint="nobody can tell which sandbox that is, so nothing may be planned: mend or delete it at the provisioner",
            )
        seen = sandbox(entry, name)
        found[name] = _the_worse(found[name]) if name in found else seen
    return tuple(found[name] for name in sorted(found))


def sandbox(data: object, sandbox_id: str) -> ObservedSandbox:
    """One sandbox of that id. What is wrong with the rest of it makes it UNKNOWN: it is there, and left alone."""
    entry: Mapping[object, object] = data if isinstance(data, Mapping) else {}
    url, status = entry.get("sandbox_url"), entry.get("status")
    phase, detail = (
        _PHASES.get(status, (Phase.UNKNOWN, "")) if isinstance(status, str) else (Phase.UNKNOWN, "")
    )
    if not detail and phase is Phase.UNKNOWN:
        detail = f"malformed entry of the provisioner: its status is {shown(status)}"
    if not is_address(url):
        if not phase.is_dead:
            phase, detail = Phase.UNKNOWN, "malformed entry of the provisioner: its URL is no http address"
        url = ""
    if entry.get("sandbox_id") != sandbox_id:
        phase = Phase.UNKNOWN
        detail = f"malformed entry of the provisioner: it calls itself {shown(entry.get('sandbox_id'))}"
    assert isinstance(url, str)
    return ObservedSandbox(
        info=SandboxInfo(sandbox_id=sandbox_id, sandbox_url=url), phase=phase, detail=detail
    )


def _the_worse(seen: ObservedSandbox) -> ObservedSandbox:
    return ObservedSandbox(
        info=seen.info,
        phase=Phase.UNKNOWN,
        detail="malformed listing of the provisioner: it is in there twice",
    )
