"""What is taken out of texts: the secrets in use, and those in use before a configuration was read again."""

from __future__ import annotations

from reconciler.engine.perform import Scrubber
from reconciler.model.desired import Desired, Secret, SecretRef
from tests.support.build import desired, wanted


def declaring(value: str | None) -> Desired:
    known = None if value is None else Secret(value)
    ref = SecretRef(source="env T", kind="env", target=("T",), digest="d", value=known)
    return desired(wanted("a", secrets={"T": ref}))


def test_a_secret_that_was_replaced_is_still_one() -> None:
    first = Scrubber(declaring("first-secret"))
    second = Scrubber(declaring("second-secret"), before=first)
    third = Scrubber(declaring(None), before=second)
    said = "first-secret second-secret"
    assert first(said) == "••• second-secret"
    assert second(said) == third(said) == "••• •••"


def test_of_two_that_overlap_the_longer_goes_first() -> None:
    short = Scrubber(declaring("abcd"))
    assert Scrubber(declaring("abcd-efgh"), before=short)("x abcd-efgh abcd") == "x ••• •••"
