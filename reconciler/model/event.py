"""What happens while it happens, as a stream of frozen events: commands emit, views print, nothing else is shared.

The JSON form is `schemas/event.v1.schema.json`.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.outcome import StepResult
from reconciler.model.plan import Action, Plan


class Activity(StrEnum):
    """What a step is doing right now; what the live line of a sandbox says."""

    CHECKING = "checking"
    DESTROYING = "destroying"
    CREATING = "creating"
    UPDATING = "updating"
    RESTARTING = "restarting"
    WAITING = "waiting for readiness"
    RETRYING = "retrying"


class Planned(Struct, frozen=True, kw_only=True):
    """The plan was made: `planned_change` per step, `drift` per outside change, then `change_summary`."""

    plan: Plan


class StepStarted(Struct, frozen=True, kw_only=True):
    address: Address
    action: Action
    key: str


class StepProgress(Struct, frozen=True, kw_only=True):
    """`elapsed` in seconds since the step started; `note` says what a retry is about, or how far the backend is with
    what takes long ("pulling app:1  34 of 120 MB")."""

    address: Address
    action: Action
    key: str
    activity: Activity
    elapsed: float
    note: str = ""


class StepEnded(Struct, frozen=True, kw_only=True):
    result: StepResult
    key: str


class Remark(Struct, frozen=True, kw_only=True):
    """Something to say that is not about a step: lock waits, a broken dead lock, a stop request."""

    diagnostic: Diagnostic


class ApplyEnded(Struct, frozen=True, kw_only=True):
    """`results` in plan order, one per step; `outputs` by name, sensitive ones masked already."""

    results: tuple[StepResult, ...]
    outputs: tuple[tuple[str, str], ...]
    seconds: float
    interrupted: bool = False


Event = Planned | StepStarted | StepProgress | StepEnded | Remark | ApplyEnded
