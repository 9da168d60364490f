"""A plan kept in a file, with what is needed to hold a later look against it. Never holds a secret's value."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from reconciler.model.plan import Plan

FORMAT = "1.0"


class Inputs(Struct, frozen=True, kw_only=True):
    """What a plan was made from, as digests, so that what changed since can be named. "" is not known: there was no
    key yet, or nobody read the secrets. `configuration` is over the files' names and bytes, `variables` by name (the
    sensitive ones keyed), `secrets` over all keyed digests together."""

    configuration: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: str = ""


class SavedPlan(Struct, frozen=True, kw_only=True):
    """A plan as it was shown, and who vouches for it. `plan` has of declared and observed sandboxes what a view shows and
    a comparison needs. `made_at` in seconds since the epoch, `tool` the version that made it.

    `keyed`: its integrity code was made with the stack's key, so whoever edits the file cannot make a new one. `forgeable`:
    it was not, although there is a key now.
    """

    plan: Plan
    inputs: Inputs = Inputs()
    made_at: float = 0.0
    tool: str = ""
    keyed: bool = False
    forgeable: bool = False
