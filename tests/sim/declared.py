"""What is declared in a simulated hour, as data that is easily edited."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.references import mark
from reconciler.model.desired import Address, Desired, DesiredSandbox, ProbeKind, Readiness, Resources
from reconciler.model.lifecycle import DriftPolicy, Lifecycle, Policy
from tests.support.build import desired, wanted

BACKENDS = ("able", "blunt")
TIMEOUT = 10.0  # seconds a sandbox has to become ready


class Box(Struct, frozen=True, kw_only=True):
    """One sandbox. `needs` names another, by its URL if it `refers`; `asks` False: no readiness is asked for."""

    name: str
    backend: str = "able"
    image: str = "one"
    cpu: float = 1.0
    drift: DriftPolicy = DriftPolicy.CORRECT
    needs: str = ""
    refers: bool = False
    asks: bool = True
    protected: bool = False

    def sandbox(self, declared: Mapping[str, Box]) -> DesiredSandbox:
        needed = [self.needs] if self.needs in declared else []
        made = wanted(
            self.name,
            backend=self.backend,
            image=self.image,
            resources=Resources(cpu=self.cpu),
            environment={"PEER": mark(Address(self.needs), "url")} if needed and self.refers else {},
            depends_on=[] if self.refers else needed,
            references=needed if self.refers else [],
            readiness=Readiness(timeout=TIMEOUT)
            if self.asks
            else Readiness(kind=ProbeKind.NONE, timeout=TIMEOUT),
            lifecycle=Lifecycle(prevent_destroy=self.protected or None),
        )
        return replace(made, drift=self.drift)


class Layout(Struct, frozen=True, kw_only=True):
    """A whole configuration. `most_drift` is its `policy.max_drift_percent`, `most_destroyed` its `policy.max_destroy`."""

    boxes: tuple[Box, ...] = ()
    most_drift: float | None = None
    most_destroyed: int | None = None

    def desired(self) -> Desired:
        by_name = {box.name: box for box in self.boxes}
        made = desired(*(box.sandbox(by_name) for box in self.boxes))
        backends = {name: replace(made.backends["main"], name=name) for name in BACKENDS}
        return replace(
            made,
            backends=backends,
            policy=Policy(max_drift_percent=self.most_drift, max_destroy=self.most_destroyed),
        )

    def edited(self, name: str, **fields: object) -> Layout:
        boxes = tuple(replace(box, **fields) if box.name == name else box for box in self.boxes)  # type: ignore[arg-type]
        return replace(self, boxes=boxes)

    def without(self, name: str) -> Layout:
        return replace(self, boxes=tuple(box for box in self.boxes if box.name != name))
