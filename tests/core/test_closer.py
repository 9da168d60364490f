"""Which sandboxes are looked at more closely than a listing does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.core.closer import wants_closer_look
from reconciler.model.desired import DesiredSandbox, Mount, Resources
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.state import State
from tests.support.build import ABLE, desired, record, seen, state, wanted

HIDES = replace(ABLE, unlisted=("resources", "mounts"))
PLAIN = wanted("a", image="one")
OTHER = wanted("a", image="two")
REFERRING = wanted("a", image="two", references=["b"])
LIMITED = wanted("a", image="one", resources=Resources(memory=5))


def looked_at(
    config: DesiredSandbox | None, known: State | None, there: ObservedSandbox, unlisted: bool = True
) -> bool:
    """Whether the one sandbox of the listing is chosen."""
    able = HIDES if unlisted else ABLE
    chosen = wants_closer_look([there], known, desired(*([config] if config else [])), able)
    assert chosen in ((), (there.info.sandbox_id,))
    return bool(chosen)


CASES = {
    "a field that is not listed is declared": (LIMITED, state(record(LIMITED)), seen(LIMITED), True),
    "it was declared before": (PLAIN, state(record(LIMITED)), seen(LIMITED), True),
    "it is declared from now on": (LIMITED, state(record(PLAIN)), seen(PLAIN), True),
    "nothing of the kind is declared": (PLAIN, state(record(PLAIN)), seen(PLAIN), False),
    "it is declared otherwise than it was recorded": (OTHER, state(record(PLAIN)), seen(PLAIN), True),
    "what it refers to is not known yet": (REFERRING, state(record(PLAIN)), seen(PLAIN), False),
    "nobody recorded that object": (PLAIN, state(), seen(PLAIN), True),
    "there is no state at all": (PLAIN, None, seen(PLAIN), True),
    "the record means another object": (PLAIN, state(record(PLAIN, generation=2)), seen(PLAIN), True),
    "it is dead, so it is made anew whatever it was": (
        LIMITED,
        state(record(LIMITED)),
        seen(LIMITED, phase=Phase.FAILED),
        False,
    ),
    "it is not declared any more": (None, state(record(LIMITED)), seen(LIMITED), False),
    "it belongs to another stack": (LIMITED, state(), seen(LIMITED, stack="theirs"), False),
    "it belongs to another lineage": (LIMITED, state(), seen(LIMITED, lineage="2" * 36), False),
    "it carries no labels and is not recorded": (LIMITED, state(), seen(LIMITED, labelled=False), False),
    "it carries no labels and is recorded": (
        LIMITED,
        state(record(LIMITED)),
        seen(LIMITED, labelled=False),
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_looked_at_when(name: str) -> None:
    config, known, there, expected = CASES[name]
    assert looked_at(config, known, there) is expected


@pytest.mark.parametrize("name", CASES)
def test_a_listing_that_leaves_nothing_out_is_enough(name: str) -> None:
    config, known, there, _ = CASES[name]
    assert not looked_at(config, known, there, unlisted=False)


def test_a_prefix_is_a_path_and_not_the_beginning_of_a_word() -> None:
    of = wanted("a", mounts=(Mount(source="/w", target="/w"),))
    able = replace(ABLE, unlisted=("mount", "mounts./wx"))
    assert wants_closer_look([seen(of)], state(record(of)), desired(of), able) == ()
    exact = replace(ABLE, unlisted=("mounts./w.source",))
    assert wants_closer_look([seen(of)], state(record(of)), desired(of), exact) == (seen(of).info.sandbox_id,)
