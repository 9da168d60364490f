"""What is killed: for each operation what was there before, what is declared, what is run, and what must come of it.

Every one begins with the same company, which no operation may touch: something of another stack, something without
labels, and, where a state is there before, one that is protected and one that was let go (fewer on an engine).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from tests.crash.runs import done
from tests.crash.worlds import OTHERS, Body, World

APPLY = ("apply", "--auto-approve")
LABELLED = ("memory", "process", "docker")
ALL = (*LABELLED, "remote")


def _nothing(_: World) -> None:
    """Nothing happens meanwhile."""


class Operation(Struct, frozen=True, kw_only=True):
    """`before` is applied, then `meanwhile` happens, then `after` is declared and `argv` run, and killed. Then `then` is
    declared (None: `after` still is), and a plain apply has to make all of that so.

    `kept` are addresses whose sandboxes are the very same afterwards, `moved` where some of them are recorded then,
    `let_go` those that run on and are nobody's. `adopts` are ids without labels that become ours. `company` is False where
    a protected or a released one would change the meaning, `renames` is True where
    ids may be those of other addresses, `code` how the run may end where nobody kills it."""

    name: str
    before: Body | None = None
    after: Body | Callable[[World], Body]
    argv: tuple[str, ...] = APPLY
    then: Body | None = None
    meanwhile: Callable[[World], None] = _nothing
    kept: frozenset[str] = frozenset()
    moved: Mapping[str, str] = field(default_factory=dict)
    let_go: frozenset[str] = frozenset()
    adopts: tuple[str, ...] = ()
    company: bool = True
    renames: bool = False
    code: tuple[int, ...] = (0,)
    on: tuple[str, ...] = ALL

    def declared(self, world: World) -> Body:
        return self.after(world) if callable(self.after) else self.after


def body(more: Body | None = None, /, **sandboxes: Body) -> dict[str, Any]:
    return {
        **(more or {}),
        "sandboxes": {name.replace("_", "-"): dict(keys) for name, keys in sandboxes.items()},
    }


def version(number: int, **keys: Any) -> Body:
    """A sandbox that is replaced when the number changes."""
    return {"environment": {"V": str(number)}, **keys}


def _lose_the_state(world: World) -> None:
    shutil.rmtree(world.folder / "state")


def _break_one(world: World) -> None:
    world.break_("w[0]")


def _pull_then_grow(world: World) -> None:
    done(world.run("state", "pull", "-o", "old.json"), "state pull")
    world.apply(with_company(_GROWN) if world.company else _GROWN)


def _somebody_elses(world: World) -> None:
    world.stranger("theirs")


_SECRET: Body = {"secrets": {"TOKEN": {"env": "TOKEN"}}}
_TWO = body(w=version(1, replicas=2), other={})
_ROLLOUT = {"max_unavailable": 1, "canary": 1}
_BAD: Body = {"readiness": {"exec": ["false"], "timeout": "300ms", "interval": "20ms"}}
_GOOD: Body = {"readiness": {"exec": ["true"], "timeout": "20s", "interval": "20ms"}}
_REVERTS: Body = {"replicas": 3, "rollout": {**_ROLLOUT, "auto_revert": True}}
_GROWN = body(stay={}, more={})
_CREATE_FIRST: Body = {"lifecycle": {"replace": "create_first"}}

OPERATIONS = (
    Operation(
        name="first create",
        after=body({"outputs": {"url": "${sandbox.w[0].url}"}}, w=version(1, replicas=2, **_SECRET)),
        company=False,
    ),
    Operation(
        name="create more",
        before=body(w=version(1, replicas=1)),
        after=body(w=version(1, replicas=3), db={"depends_on": ["w"]}),
        kept=frozenset({"w[0]"}),
    ),
    Operation(
        name="update in place",
        before=body(w={"replicas": 2}, other={}),
        after=lambda world: body(w={"replicas": 2, **world.in_place}, other={}),
        kept=frozenset({"w[0]", "w[1]", "other"}),
    ),
    Operation(
        name="replace, destroy first",
        before=_TWO,
        after=body(w=version(2, replicas=2), other={}),
        kept=frozenset({"other"}),
    ),
    Operation(
        name="replace, create first",
        before=body(w=version(1, replicas=2, **_CREATE_FIRST), other={}),
        after=body(w=version(2, replicas=2, **_CREATE_FIRST), other={}),
        kept=frozenset({"other"}),
        on=LABELLED,  # refused where objects cannot be labelled
    ),
    Operation(name="destroy some", before=_TWO, after=body(other={}), kept=frozenset({"other"})),
    Operation(name="destroy all", before=_TWO, after=_TWO, argv=("destroy", "--auto-approve"), company=False),
    Operation(
        name="adopt",
        before=_TWO,
        after=_TWO,
        meanwhile=_lose_the_state,
        kept=frozenset({"w[0]", "w[1]", "other"}),
        company=False,
        on=LABELLED,
    ),
    Operation(
        name="repair by restart",
        before=_TWO,
        after=_TWO,
        meanwhile=_break_one,
        kept=frozenset({"w[0]", "w[1]", "other"}),
        on=LABELLED,
    ),
    Operation(
        name="repair by replacement",
        before=_TWO,
        after=_TWO,
        meanwhile=_break_one,
        kept=frozenset({"w[1]", "other"}),
        on=("remote",),
    ),
    Operation(
        name="roll out in waves",
        before=body(w=version(1, replicas=3, rollout=_ROLLOUT), other={}),
        after=body(w=version(2, replicas=3, rollout=_ROLLOUT), other={}),
        kept=frozenset({"other"}),
    ),
    Operation(
        name="roll out, taken back",
        before=body(w=version(1, **_REVERTS, **_GOOD)),
        after=body(w=version(2, **_REVERTS, **_BAD)),
        then=body(w=version(1, **_REVERTS, **_GOOD)),
        kept=frozenset({"w[1]", "w[2]"}),
        code=(5,),
    ),
    Operation(
        name="moved",
        before=body(old={}, other={}),
        after=body({"moved": [{"from": "old", "to": "new"}]}, new={}, other={}),
        kept=frozenset({"old", "other"}),
        moved={"old": "new"},
    ),
    Operation(
        name="removed, let go",
        before=body(old={}, other={}),
        after=body({"removed": [{"from": "old", "destroy": False}]}, other={}),
        kept=frozenset({"other"}),
        let_go=frozenset({"old"}),
    ),
    Operation(
        name="import",
        before=body(other={}),
        after=body({"imports": [{"to": "w", "id": "theirs"}]}, w={}, other={}),
        meanwhile=_somebody_elses,
        kept=frozenset({"other"}),
        adopts=("theirs",),
        on=("memory", "process", "remote"),
    ),
    Operation(
        name="state mv",
        before=body(old={}, other={}),
        after=body({"moved": [{"from": "old", "to": "new"}]}, new={}, other={}),
        argv=("state", "mv", "old", "new"),
        kept=frozenset({"old", "other"}),
        moved={"old": "new"},
    ),
    Operation(
        name="state rm",
        before=body(old={}, other={}),
        after=body({"removed": [{"from": "old", "destroy": False}]}, other={}),
        argv=("state", "rm", "old"),
        kept=frozenset({"other"}),
        let_go=frozenset({"old"}),
    ),
    Operation(
        name="state push",
        before=body(stay={}),
        after=_GROWN,
        meanwhile=_pull_then_grow,
        argv=("state", "push", "--force", "old.json"),
        kept=frozenset({"stay", "more"}),
        on=LABELLED,  # elsewhere what the older state does not know is refused, not taken over
    ),
)
BY_NAME = {operation.name: operation for operation in OPERATIONS}

_PROTECTED: Body = {"lifecycle": {"prevent_destroy": True}}
RELEASED, PROTECTED = "released", "protected"


def with_company(declared: Body) -> Body:
    """With the one that is protected."""
    return {**declared, "sandboxes": {**declared["sandboxes"], PROTECTED: _PROTECTED}}


def prepare(world: World, operation: Operation) -> None:
    """Everything up to the run that is to be killed."""
    world.stranger("of-another-stack", OTHERS)
    world.stranger("of-nobody")
    before = operation.before
    if before is not None:
        if accompanied(world, operation):
            before = with_company(before)
            world.apply({**before, "sandboxes": {**before["sandboxes"], RELEASED: {}}})
            done(world.run("state", "rm", RELEASED), "state rm")
            world.declare(before)
        else:
            world.apply(before)
    operation.meanwhile(world)
    world.declare(operation_body(world, operation))


def operation_body(world: World, operation: Operation, *, afterwards: bool = False) -> Body:
    """What is declared while it is killed, or for the apply that follows."""
    declared = operation.declared(world)
    if afterwards and operation.then is not None:
        declared = operation.then
    return with_company(declared) if accompanied(world, operation) else declared


def accompanied(world: World, operation: Operation) -> bool:
    return operation.company and world.company
