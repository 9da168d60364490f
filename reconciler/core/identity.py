"""Names and ownership: which id an address has, whose an object is, and whether it is still the one we planned on."""

from __future__ import annotations

import re

from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, FlatSpec, Owner, SandboxId, fingerprint
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import Action, Reason, Step
from reconciler.model.sha256 import sha256

_NOT_IN_A_NAME = r"[^a-z0-9]+"
_SANDBOX_ID = r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?"


def sandbox_id(stack: str, address: Address, generation: int) -> SandboxId:
    """The same in every process: a readable part of the address and 48 bits of a hash of stack, address and
    generation. Fits `^[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?$`."""
    digest = sha256(f"{stack}\n{address}\n{generation}".encode()).hexdigest()[:12]
    slug = re.sub(_NOT_IN_A_NAME, "-", address.lower()).strip("-")[:36].strip("-")
    return SandboxId(f"{slug}-{digest}" if slug else f"s-{digest}")


def label_hash(flat: FlatSpec, capabilities: Capabilities) -> str:
    """The fingerprint in an object's labels: of the whole spec, or, where labels are fixed at creation, of the fields
    that are fixed as well. The others are known from the state and from the live object."""
    if capabilities.relabels:
        return fingerprint(flat)
    return fingerprint({path: flat[path] for path in flat if not capabilities.updates_in_place(path)})


def is_sandbox_id(text: str) -> bool:
    """Whether backends can take it for the id of a sandbox: 1 to 51 of a-z, 0-9 and -, neither first nor last a
    dash."""
    return re.fullmatch(_SANDBOX_ID, text) is not None


def is_ours(seen: ObservedSandbox, stack: str, lineage: str) -> bool:
    """By label alone; an object that carries none is nobody's."""
    return seen.owner is not None and seen.owner.stack == stack and seen.owner.lineage == lineage


def moved(step: Step, seen: ObservedSandbox | None) -> str:
    """What changed about the object since the step was planned on it; "" when it is still the same.

    Gone is fine for a step that wanted it gone.
    """
    planned = step.current
    if planned is None:
        return ""
    if seen is None:
        return "" if step.destroys else "it is gone"
    if seen.info.container_id != planned.info.container_id:
        return f"it is another object now ({seen.info.container_id or 'no id'})"
    if planned.owner is not None and _made(seen.owner) != _made(planned.owner):
        return "its labels changed"
    if step.reason is Reason.DEAD and seen.phase is Phase.UNKNOWN:
        return "nobody can tell any more whether it runs"
    if (
        recovers(step, seen)
        and step.changes
        and not any(change.forces_replacement for change in step.changes)
    ):
        return f"it runs again ({seen.phase}), so what changed can be changed in place"
    if step.action in (Action.UPDATE, Action.ADOPT):
        if seen.phase is Phase.TERMINATING:
            return "somebody is removing it"
        if seen.phase.is_dead:
            return f"it stopped ({seen.detail or seen.phase})"
    return ""


def _made(owner: Owner | None) -> tuple[str, str, int, str] | None:
    """What tells that it was made, or made over, by somebody else: a move and a protection change nothing on it."""
    return None if owner is None else (owner.stack, owner.lineage, owner.generation, owner.spec_hash)


def recovers(step: Step, seen: ObservedSandbox | None) -> bool:
    """Whether what was to be replaced only because it was dead runs again: started by hand, by the engine's restart
    policy, or by a start that a killed run left behind."""
    if step.reason is not Reason.DEAD or seen is None:
        return False
    return not (seen.phase.is_dead or seen.phase in (Phase.PAUSED, Phase.TERMINATING, Phase.UNKNOWN))
