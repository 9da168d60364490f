"""What the fuzz found, made small: each of these broke a rule once."""

from __future__ import annotations

from tests.fuzz.live import hold
from tests.fuzz.scenario import Apply, Config, Declare, Fault, Group, Happens, Rename, Scenario


def test_a_backend_with_something_left_behind_is_looked_at_again() -> None:
    """A listing lied, so `b` was forgotten; a run for `c` alone must not forget its backend as well."""
    hold(
        Scenario(
            operations=(
                Declare(config=Config(groups=(Group(name="b"),))),
                Apply(),
                Declare(config=Config(groups=(Group(name="c", backend="fixed"),))),
                Apply(faults=(Fault(verb="create", backend="fixed"), Fault(verb="observe", how="omits"))),
                Apply(targets=("c",)),
            ),
        )
    )


def test_a_port_is_freed_though_a_dependent_waits_for_who_needs_it() -> None:
    hold(
        Scenario(
            operations=(
                Declare(
                    config=Config(
                        groups=(Group(name="b", port=1), Group(name="c", needs=("b",), refers=True))
                    )
                ),
                Apply(),
                Rename(source="b", target="a"),
            ),
        )
    )


def test_a_trigger_is_not_forgotten_while_what_it_names_is_repaired() -> None:
    """`a` was replaced and never answered, so `b` was skipped; repairing `a` must replace `b` in the same run."""
    hold(
        Scenario(
            operations=(
                Declare(config=Config(groups=(Group(name="a"), Group(name="b", triggers=("a",))))),
                Apply(),
                Happens(what="alter"),
                Apply(faults=(Fault(verb="probe", times=4),)),
            ),
        )
    )


def test_a_destroy_leaves_no_record_of_a_replacement_that_never_came() -> None:
    hold(
        Scenario(
            operations=(
                Declare(config=Config(groups=(Group(name="a", backend="fixed", create_first=True),))),
                Apply(),
                Apply(replace=("a",), faults=(Fault(verb="create", backend="fixed"),)),
                Apply(destroy=True),
            ),
        )
    )


def test_looking_alone_does_not_take_the_old_object_for_the_one_that_was_to_replace_it() -> None:
    """The successor was killed on its way; what is left has no secret, whatever its record says of the successor."""
    hold(
        Scenario(
            operations=(
                Declare(config=Config(groups=(Group(name="b"),))),
                Apply(),
                Declare(config=Config(groups=(Group(name="b", secret="v1", create_first=True),))),
                Apply(dies_at=2),
                Happens(what="remove", which=1),
                Apply(refresh_only=True),
            ),
        )
    )
