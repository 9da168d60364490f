"""Close looks by their number: one call for a backend that hides something, none for one that does not."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from reconciler.core.references import mark
from reconciler.engine.refresh import look
from reconciler.errors import ObservationIncomplete, Unavailable
from reconciler.model.desired import Address, Desired, Resources
from reconciler.model.observed import ObservedSandbox
from reconciler.model.plan import Action, Reason
from tests.support.build import desired, wanted
from tests.support.running import EngineLike, Stack


def config(memory: int = 100) -> Desired:
    return desired(
        wanted("limited[0]", image="one", resources=Resources(memory=memory)),
        wanted("limited[1]", image="one", resources=Resources(memory=memory)),
        wanted("plain", image="one", environment={"PEER": mark(Address("limited[0]"), "url")}),
    )


def stack(kind: type[EngineLike] = EngineLike) -> Stack:
    made = Stack(config(), kind=kind)
    made.apply()
    made.clear()
    return made


class Counting(EngineLike):
    """Notes which ids it was asked to look at closely."""

    def __init__(self, world: str) -> None:
        super().__init__(world)
        self.asked: list[list[str]] = []

    def look_closely(self, sandbox_ids: Collection[str]) -> Sequence[ObservedSandbox]:
        self.asked.append(sorted(sandbox_ids))
        return super().look_closely(sandbox_ids)


def test_one_call_for_those_that_declare_something_hidden() -> None:
    made = stack(Counting)
    assert isinstance(made.memory, Counting)
    made.memory.asked.clear()
    assert made.plan().empty
    assert made.backend.calls == ["observe", "look_closely"]
    assert made.memory.asked == [[name for name in made.ids() if name.startswith("limited-")]]


def test_none_where_the_listing_shows_all() -> None:
    made = Stack(config())
    made.apply()
    made.clear()
    assert made.plan().empty
    assert made.backend.calls == ["observe"]


def test_none_to_destroy_everything() -> None:
    made = stack()
    made.plan(destroy=True)
    assert made.backend.calls == ["observe"]


def test_drift_of_a_hidden_field_is_seen_and_put_back() -> None:
    made = stack()
    made.memory.alter(made.ids()[0], "resources.memory", 5)
    [step] = made.plan().steps
    assert (step.action, step.reason) == (Action.UPDATE, Reason.DRIFTED)
    assert [(c.path, c.before, c.after, c.outside) for c in step.changes] == [
        ("resources.memory", 5, 100, True)
    ]
    made.apply()
    assert made.plan().empty


def test_one_that_went_between_the_two_looks_is_gone() -> None:
    made = stack()
    victim = made.ids()[0]
    made.backend.fault = lambda verb, n: (
        made.memory.remove(victim) if verb == "look_closely" else None  # type: ignore[func-returns-value]
    )
    [step] = made.plan().steps
    assert (step.action, step.reason, step.address) == (Action.CREATE, Reason.MISSING, "limited[0]")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Unavailable("engine down"), id="a failure"),
        pytest.param(KeyError("State"), id="a bug of the backend"),
    ],
)
def test_a_closer_look_that_fails_is_a_failed_look(error: Exception) -> None:
    made = stack()
    made.backend.fault = lambda verb, n: error if verb == "look_closely" else None
    with pytest.raises(ObservationIncomplete, match="main: "):
        made.plan()
    with pytest.raises(ObservationIncomplete):
        made.apply()
    assert len(made.ids()) == 3


def test_named_and_chosen_ones_are_one_call() -> None:
    made = stack(Counting)
    assert isinstance(made.memory, Counting)
    made.memory.create(None, "strange")
    first = made.ids()[0]
    made.memory.asked.clear()
    seen = look(
        {"main": made.memory},
        unlabelled={"main": ["strange", "nowhere"]},
        closer=lambda name, listed: [first] if name == "main" else [],
    )
    assert made.memory.asked == [sorted([first, "nowhere", "strange"])]
    assert sorted(one.info.sandbox_id for one in seen.sandboxes) == made.ids()
    shown = {one.info.sandbox_id: one.attributes or {} for one in seen.sandboxes}
    assert shown[first]["resources.memory"] == 100
    assert all(one.backend == "main" for one in seen.sandboxes)
