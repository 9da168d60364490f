"""Labels of ownership, and when an object that has an id already is the one that is meant."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.backends.containers import PREFIX, free_labels, labels_of, owner_of
from reconciler.backends.ownership import check_owner
from reconciler.errors import Conflict
from reconciler.model.desired import Owner
from reconciler.testing.backend_conformance import an_owner

PROTECTED = f"{PREFIX}protected"


@pytest.mark.parametrize("protected", [True, False])
def test_labels_say_whose_it_is_and_whether_it_is_protected(protected: bool) -> None:
    labels = labels_of("a", an_owner(protected=protected), "t-1")
    assert owner_of(labels) == an_owner(protected=protected)
    assert labels.get(PROTECTED) == ("true" if protected else None)
    assert free_labels(labels) == {}


@pytest.mark.parametrize("text", ["false", "", "1"])
def test_only_one_word_protects(text: str) -> None:
    assert owner_of({**labels_of("a", an_owner(), None), PROTECTED: text}) == an_owner()


@pytest.mark.parametrize(
    ("found", "wanted", "dead"),
    [
        pytest.param({}, {}, False, id="the very same"),
        pytest.param({"protected": True}, {}, False, id="protected until now"),
        pytest.param({}, {"protected": True}, False, id="protected from now on"),
        pytest.param({"spec_hash": "1" * 32}, {}, True, id="dead, and made from another specification"),
    ],
)
def test_an_object_is_the_one_that_is_meant(
    found: dict[str, Any], wanted: dict[str, Any], dead: bool
) -> None:
    check_owner("a", an_owner(**found), an_owner(**wanted), dead=dead)


@pytest.mark.parametrize(
    ("found", "wanted", "told"),
    [
        pytest.param(an_owner(), None, "belongs to researcher[0] of stack conformance", id="nobody asks"),
        pytest.param(None, an_owner(), "belongs to nobody, not to researcher[0]", id="nobody's"),
        pytest.param(an_owner(stack="b"), an_owner(), "of stack b", id="another stack's"),
        pytest.param(
            an_owner(spec_hash="1" * 32, protected=True),
            an_owner(),
            "made from another specification",
            id="another specification, whatever its protection",
        ),
        pytest.param(an_owner(generation=2), an_owner(), "another specification", id="another generation"),
    ],
)
def test_an_object_is_another_one(found: Owner | None, wanted: Owner | None, told: str) -> None:
    with pytest.raises(Conflict) as raised:
        check_owner("a", found, wanted, dead=False)
    assert told in raised.value.message
