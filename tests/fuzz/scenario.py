"""A life cycle as data: what is declared, what happens outside, what is run, and what fails meanwhile.

Everything has a default that means nothing, so that a scenario can be made smaller field by field and prints short. What
a smaller one no longer declares is passed over where others speak of it, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.references import mark
from reconciler.model.desired import (
    Address,
    BackendConfig,
    Desired,
    DesiredSandbox,
    Import,
    Lifecycle,
    Output,
    Port,
    ProbeKind,
    Readiness,
    Resources,
    SandboxSpec,
    Secret,
    SecretRef,
)
from reconciler.model.lifecycle import Move, Policy, Removal, Rollout
from reconciler.model.position import Position

STACK = "fuzz"
HUSH = "hunter2hush-"  # every secret's value begins with it
KINDS = ("able", "fixed", "plain", "liar")  # of backends: see `backends.py`
TIMEOUT = 3.0  # seconds of virtual time that a sandbox has to become ready


class Group(Struct, frozen=True, kw_only=True):
    """One entry of `sandboxes:`. `replicas` None is a single one. `secret` is a version of its value. `needs` are groups;
    with `refers` by their URL. `asks` False: no readiness is asked for."""

    name: str
    replicas: int | None = None
    backend: str = "able"
    image: str = "one"
    cpu: float | None = None
    tier: str | None = None
    secret: str | None = None
    port: int | None = None
    needs: tuple[str, ...] = ()
    refers: bool = False
    asks: bool = True
    create_first: bool = False
    protected: bool = False
    ignores: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    lifetime: float | None = None
    rollout: Rollout | None = None

    @property
    def may_come_first(self) -> bool:
        """Not where nobody would know the old one, nor where both need the same port."""
        return self.create_first and self.backend != "plain" and self.port is None

    def addresses(self) -> tuple[Address, ...]:
        if self.replicas is None:
            return (Address(self.name),)
        return tuple(Address(f"{self.name}[{index}]") for index in range(self.replicas))


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration. A group may need those before it. `imports` are (address, id), `moved` (from, to), `removed`
    (what, whether it is destroyed)."""

    groups: tuple[Group, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, bool], ...] = ()
    imports: tuple[tuple[str, str], ...] = ()
    policy: Policy = Policy()

    def desired(self) -> Desired:
        sandboxes = {s.address: s for s in sorted(self._sandboxes(), key=lambda s: s.address)}
        return Desired(
            stack=STACK,
            sandboxes=sandboxes,
            backends={kind: BackendConfig(name=kind, type="memory") for kind in KINDS},
            outputs={
                group.name: Output(
                    name=group.name, value=mark(group.addresses()[0], "url"), position=_at(number)
                )
                for number, group in enumerate(self.groups)
                if group.addresses()
            },
            imports={
                Address(to): Import(id=name, position=_at(90)) for to, name in self.imports if to in sandboxes
            },
            moved=tuple(Move(source=old, target=new, position=_at(80)) for old, new in self._moves()),
            removed=tuple(
                Removal(source=name, destroy=destroy, position=_at(70))
                for name, destroy in self.removed
                if name not in self._names()
            ),
            policy=self.policy,
        )

    def _names(self) -> set[str]:
        return {group.name for group in self.groups}

    def _moves(self) -> Iterator[tuple[str, str]]:
        """Those that a configuration may have: from what is declared no more, to what is."""
        taken: set[str] = set()
        for old, new in self.moved:
            if old not in self._names() and new in self._names() and taken.isdisjoint({old, new}):
                taken |= {old, new}
                yield old, new

    def _sandboxes(self) -> Iterator[DesiredSandbox]:
        before: dict[str, tuple[Address, ...]] = {}
        taken: set[tuple[str, int]] = set()
        for number, group in enumerate(map(_fitting, self.groups)):
            if group.port is not None and (group.backend, group.port) in taken:
                group = replace(group, port=None)  # noqa: PLW2901 - as it can be
            taken |= {(group.backend, group.port)} if group.port else set()
            needs = tuple(a for name in group.needs for a in before.get(name, ())[:1])
            triggers = tuple(a for name in group.triggers for a in before.get(name, ())[:1])
            for address in group.addresses():
                yield DesiredSandbox(
                    address=address,
                    group=group.name,
                    backend=group.backend,
                    spec=_spec(group, needs),
                    position=_at(number),
                    depends_on=(*needs, *(a for a in triggers if a not in needs)),
                    references=needs if group.refers else (),
                    lifecycle=Lifecycle(
                        create_first=group.may_come_first,
                        prevent_destroy=group.protected,
                        ignore_changes=group.ignores,
                        replace_triggered_by=triggers,
                        max_lifetime=group.lifetime,
                    ),
                    rollout=group.rollout,
                )
            before[group.name] = group.addresses()


def _fitting(group: Group) -> Group:
    """Replicas cannot share a port, nor is there anything to roll out without them."""
    return replace(group, rollout=None) if group.replicas is None else replace(group, port=None)


def _spec(group: Group, needs: tuple[Address, ...]) -> SandboxSpec:
    secret = group.secret and SecretRef(
        source="env TOKEN",
        kind="env",
        target=("TOKEN",),
        digest=f"digest-of-{group.secret}",
        value=Secret(HUSH + group.secret),
    )
    return SandboxSpec(
        image=group.image,
        environment={f"PEER{i}": mark(a, "url") for i, a in enumerate(needs)} if group.refers else {},
        secrets={"TOKEN": secret} if secret else {},
        ports=(Port(name="api", container=80, host=group.port),) if group.port else (),
        resources=Resources(cpu=group.cpu),
        labels={"tier": group.tier} if group.tier else {},
        readiness=Readiness(timeout=TIMEOUT)
        if group.asks
        else Readiness(kind=ProbeKind.NONE, timeout=TIMEOUT),
    )


def _at(line: int) -> Position:
    return Position("sandboxes.yaml", line + 1, 1)


class Fault(Struct, frozen=True, kw_only=True):
    """The `nth` call of a verb within an operation goes wrong, and those after it, `times` in all. `how`: transient,
    permanent, crash (an exception nobody expects), each of them also `_after` the effect; silent (no answer at all),
    silent_after; late (no answer, and the effect lands after the run); lies (it says that it worked, and did nothing);
    sleeps (it worked, and it never becomes ready); dies (it worked, and it ends at once); kill, kill_after (of the run
    itself); omits (a listing leaves out the first of ours)."""

    verb: str
    how: str = "permanent"
    nth: int = 1
    times: int = 1
    backend: str = "able"


class Declare(Struct, frozen=True, kw_only=True):
    """The configuration is this one from now on."""

    config: Config


class Apply(Struct, frozen=True, kw_only=True):
    """One apply. `dies_at`: the run is killed at its nth write to the store, before that is there, or `after`; `full_at`:
    from the nth write on the disk is full. `stops_at`: it is asked to stop at the nth call of a backend."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    refresh_only: bool = False
    refresh: bool = True
    destroy: bool = False
    fail_fast: bool = False
    parallelism: int | None = None
    faults: tuple[Fault, ...] = ()
    dies_at: int | None = None
    after: bool = False
    full_at: int | None = None
    stops_at: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it means everything, and makes it as declared."""
        return not (self.targets or self.excludes or self.refresh_only or self.destroy) and self.refresh


class Happens(Struct, frozen=True, kw_only=True):
    """Something outside: kill, pause, resume, remove, or alter (`image`, to `value`), to the `which`th live object of this
    stack, counted round."""

    what: str
    which: int = 0
    value: str = "three"


class Stranger(Struct, frozen=True, kw_only=True):
    """Somebody makes an object by hand: "bare" without labels, "foreign" of another stack, "sibling" of this stack and
    another lineage. `id` "" takes the name that the address would get next."""

    kind: str = "bare"
    id: str = "theirs"
    address: str = "a"
    backend: str = "able"
    image: str = "one"


class Passes(Struct, frozen=True, kw_only=True):
    """Time goes by, in seconds."""

    seconds: float = 100.0


class Rename(Struct, frozen=True, kw_only=True):
    """The state is edited: what is recorded as `source` is `target`."""

    source: str
    target: str


class LetGo(Struct, frozen=True, kw_only=True):
    """The state is edited: the record goes, and its object is nobody's."""

    address: str


Operation = Declare | Apply | Happens | Stranger | Passes | Rename | LetGo


class Scenario(Struct, frozen=True, kw_only=True):
    """`store` is "memory" or "file"."""

    operations: tuple[Operation, ...] = ()
    store: str = "memory"
