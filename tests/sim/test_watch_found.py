"""What simulated hours found in the watch, each as a short hour that shows it. The referee says whether it is well again."""

from __future__ import annotations

import pytest

from reconciler.core.damping import Damping
from reconciler.model.lifecycle import DriftPolicy
from tests.sim.declared import Box, Layout
from tests.sim.referee import Referee
from tests.sim.script import Happens, Hour
from tests.sim.simulated import live

REPORT = DriftPolicy.REPORT
A, B = Box(name="a"), Box(name="b")


def happens(at: float, what: str, whom: str = "", seconds: float = 0.0) -> Happens:
    return Happens(at=at, what=what, whom=whom, seconds=seconds)


def lived(
    *boxes: Box, of: tuple[Happens, ...], lossy: float = 1.0, give_up: int = 8, **limits: float
) -> Referee:
    """An hour in which no event is told, unless it is said how many get lost."""
    layout = Layout(
        boxes=boxes,
        most_drift=limits.get("most_drift"),
        most_destroyed=int(m) if (m := limits.get("most_destroyed")) is not None else None,
    )
    referee = live(Hour(seed=1, layout=layout, happens=of, lossy=lossy, damping=Damping(give_up=give_up)))
    assert referee.fouls == [], "\n".join(referee.story)
    return referee


def test_a_stop_is_heard_at_once_after_a_correction_too() -> None:
    """The run of a correction had the request wake itself, and left it so: up to a second went by."""
    for at in (10.0, 17.3, 25.6):
        lived(A, of=(happens(at, "kill", "a"),))


def test_it_does_not_go_round_and_round_when_all_that_is_due_waits_for_something_else() -> None:
    """A correction of nothing was taken for one to look at right away."""
    lived(
        Box(name="a", drift=REPORT),
        Box(name="b", needs="a"),
        of=(happens(10, "kill", "a"), happens(12, "kill", "b")),
    )


def test_who_answers_again_by_himself_is_heard() -> None:
    """What had been found not to answer was never asked again."""
    referee = lived(Box(name="a", drift=REPORT), of=(happens(100, "deaf", "a", 60.0),))
    assert referee.tally["incidents"] == 1


def test_a_correction_that_the_store_cuts_short_is_paused_after() -> None:
    """It counted for nothing, so it came back with every event."""
    lived(
        A,
        of=(happens(10, "chatter", "able", 200), happens(11, "full", "", 150), happens(12, "kill", "a")),
        lossy=0.0,
    )


def test_what_follows_another_is_paused_too_after_a_correction_that_was_cut_short() -> None:
    """Only what was due of its own was: a follower that was half replaced by then was taken up again at once."""
    follower = Box(name="b", backend="blunt", needs="a", refers=True)
    killed, full = happens(10, "kill", "a"), happens(12.6, "full", "", 20)
    referee = lived(Box(name="a", backend="blunt"), follower, of=(killed, full), lossy=0.0)
    assert referee.tally["destroy"] == 2


def test_corrections_count_though_their_state_cannot_be_saved_and_they_are_told() -> None:
    """They were made again and again, and nobody heard of them."""
    referee = lived(A, of=(happens(10, "unsaved", "", 800), happens(11, "flap", "a", 700)), lossy=0.0)
    assert referee.tally["corrections"] == 8


def test_the_store_works_again_when_something_was_written() -> None:
    """Any look that was well was taken for that."""
    referee = lived(A, of=(happens(10, "unsaved", "", 300), happens(11, "kill", "a")))
    assert referee.tally["incidents"] == 2


def test_what_a_correction_records_is_nobodys_repair() -> None:
    """An update that failed left another fingerprint, which forgave it all that had gone before."""
    refused = happens(99, "refuse", "able", 300)  # an even number of seconds: for good
    lived(A, of=(refused, happens(100, "limit it", "a"), happens(101, "chatter", "able", 200)), lossy=0.0)


def test_what_nobody_can_tell_anything_of_is_not_well() -> None:
    """Neither drifted nor missing was taken for well, and its incident for over."""
    lived(Box(name="a", drift=REPORT), of=(happens(10, "limit it", "a"), happens(100, "unknown", "a", 100)))


def test_a_stray_that_cannot_be_seen_is_not_gone() -> None:
    """Nobody recorded it, so nobody knew that it lives where nobody could look."""
    referee = lived(A, of=(happens(10, "stray", "able", 500), happens(100, "outage", "able", 100)))
    assert referee.tally["incidents"] == 2


def test_events_do_not_keep_it_from_asking_who_answers() -> None:
    """Each event put off the look of the clock, the only one that asks."""
    referee = lived(A, of=(happens(10, "chatter", "able", 600), happens(50, "deaf", "a", 500)), lossy=0.0)
    assert referee.tally["restart"] == 1


def test_what_was_skipped_was_not_tried() -> None:
    """Whoever needs something that cannot be put back was given up with it."""
    refused = happens(9, "refuse", "able", 600)
    killed = (happens(10, "remove", "a"), happens(10, "kill", "b"))
    lived(A, Box(name="b", backend="blunt", needs="a"), of=(refused, *killed))


def test_what_follows_another_has_pauses_of_its_own() -> None:
    """It was replaced as often as the other one."""
    follower = Box(name="b", backend="blunt", needs="a", refers=True)
    lived(Box(name="a", backend="blunt"), follower, of=(happens(10, "flap", "a", 900),), give_up=4)


@pytest.mark.parametrize("backend", ["able", "blunt"])
def test_what_may_follow_is_no_drift_yet(backend: str) -> None:
    """Whoever refers to something broken was told of as changed, for as long as that stayed broken."""
    referee = lived(
        Box(name="a", backend=backend, drift=REPORT),
        Box(name="b", needs="a", refers=True),
        of=(happens(10, "kill", "a"),),
    )
    assert referee.tally["incidents"] == 1


def test_what_is_dead_is_dead_whatever_it_refers_to() -> None:
    """That nobody knew yet where the other one would be was taken for all there was to say of it."""
    boxes = (A, Box(name="b", needs="a", refers=True, drift=REPORT), Box(name="c"), Box(name="d"))
    referee = lived(
        *boxes,
        of=(happens(10, "kill", "b"), happens(60, "pause", "a"), happens(60, "kill", "c")),
        most_drift=40.0,
    )
    assert "drift:b" in referee.open


def test_what_needs_one_that_stands_is_put_back_whatever_that_one_needs() -> None:
    """Whoever might be changed some time held up those that need it, though it was as it was applied, and there."""
    boxes = (
        Box(name="a", drift=REPORT),
        Box(name="b", backend="blunt", needs="a", refers=True),
        Box(name="c", backend="blunt", needs="b", refers=True),
    )
    referee = lived(*boxes, of=(happens(10, "pause", "a"), happens(100, "kill", "c")))
    assert referee.tally["corrections"] == 1


def test_what_needs_one_that_was_changed_by_hand_is_put_back() -> None:
    """A limit that was changed on the one that is only reported held up all that need it, though it runs and answers."""
    boxes = (Box(name="a", drift=REPORT), Box(name="b", needs="a"))
    referee = lived(*boxes, of=(happens(10, "limit it", "a"), happens(100, "kill", "b")))
    assert referee.tally["corrections"] == 1


def test_what_is_protected_counts_among_what_drifted() -> None:
    """It did where a correction was refused, and not where it was told why."""
    boxes = (A, Box(name="b", protected=True), Box(name="c"))
    referee = lived(*boxes, of=(happens(10, "kill", "a"), happens(10, "kill", "b")), most_drift=40.0)
    assert "fleet:" in referee.open


def test_what_is_never_destroyed_by_a_watch_is_not_too_many_to_destroy() -> None:
    """A stray and a limit on what may be destroyed: nothing at all was put back."""
    stray = happens(5, "stray", "able", 2000)
    referee = lived(A, of=(stray, happens(40, "kill", "a")), most_destroyed=0)
    assert referee.tally["restart"] == 1
