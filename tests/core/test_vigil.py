"""What a watch decides from one look after another. Times are the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.core.damping import Damping
from reconciler.core.vigil import Sight, Told, Verdict, Vigil
from reconciler.model.desired import Address
from reconciler.model.drift import Cause, Drift
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.plan import Action, Reason
from reconciler.model.watching import IncidentKind, IncidentOpened

WEB, DB = Address("web"), Address("db")
DAMPING = Damping(pause=10.0, factor=2.0, longest=35.0, well_after=100.0, give_up=4, window=1000.0)


def drift(
    address: Address = WEB,
    *,
    policy: DriftPolicy = DriftPolicy.CORRECT,
    why_not: str = "",
    cause: Cause = Cause.KILLED,
) -> Drift:
    return Drift(
        address=address, backend="main", sandbox_id=f"{address}-1", reason=Reason.DEAD, cause=cause, policy=policy,
        action=None if why_not else Action.REPAIR, why_not=why_not,
    )  # fmt: skip


def well(*addresses: Address) -> Sight:
    return Sight(there={address: f"{address}-1" for address in addresses})


def wrong(*drifts: Drift, **more: object) -> Sight:
    return Sight(drifts=drifts, **more)  # type: ignore[arg-type]


@dataclass
class Watched:
    """A vigil with a clock of its own; `told` are "+kind:subject" and "-kind:subject"."""

    vigil: Vigil = field(default_factory=lambda: Vigil(damping=DAMPING))
    now: float = 0.0
    told: list[str] = field(default_factory=list)

    def look(self, sight: Sight, after: float = 0.0) -> Verdict:
        self.now += after
        verdict = self.vigil.looked(sight, self.now, self.now)
        self.hear(verdict.told)
        return verdict

    def hear(self, events: tuple[Told, ...]) -> None:
        self.told += [f"{'+' if isinstance(e, IncidentOpened) else '-'}{e.incident.key}" for e in events]

    def correct(self, sight: Sight, after: float = 0.0) -> bool:
        """Whether it was due; then it is corrected, too."""
        due = self.look(sight, after).due
        self.vigil.corrected(due, self.now)
        return bool(due)


class TestCorrections:
    def test_the_first_comes_at_once_and_each_further_one_after_a_longer_pause(self) -> None:
        watched = Watched()
        sight = wrong(drift())
        assert watched.correct(sight)
        for pause in (10.0, 20.0, 35.0):
            assert not watched.correct(sight, pause - 0.5)
            assert watched.vigil.wake(watched.now) == watched.now + 0.5
            assert watched.correct(sight, 0.5)

    def test_after_a_time_of_health_all_is_forgotten(self) -> None:
        watched = Watched()
        for _ in range(2):
            assert watched.correct(wrong(drift()), 60.0)
        watched.look(well(WEB))
        watched.look(well(WEB), 100.0)
        assert watched.correct(wrong(drift()), 1.0)
        assert watched.vigil.patients[WEB].attempts == 1

    def test_a_moment_of_health_is_no_reason_to_forget(self) -> None:
        watched = Watched()
        watched.correct(wrong(drift()))
        watched.look(well(WEB), 1.0)
        assert not watched.correct(wrong(drift()), 5.0)

    def test_what_does_not_stay_is_given_up_and_that_is_told_once(self) -> None:
        watched = Watched()
        assert [watched.correct(wrong(drift()), 40.0) for _ in range(6)] == [True] * 4 + [False] * 2
        assert watched.told == ["+drift:web", "+gave_up:web"]
        assert watched.vigil.wake(watched.now) is None

    def test_what_was_given_up_is_tried_again_when_asked_or_applied_anew(self) -> None:
        watched = Watched()
        for again in (watched.vigil.forgive, lambda: watched.vigil.recorded({WEB: "another"})):
            watched.vigil.recorded({WEB: "one"})
            for _ in range(5):
                watched.correct(wrong(drift()), 40.0)
            assert watched.vigil.patients[WEB].gave_up
            again()
            assert watched.correct(wrong(drift()))

    def test_a_correction_by_somebody_else_is_no_reason_to_try_more_often(self) -> None:
        watched = Watched()
        watched.vigil.recorded({WEB: "one"})
        watched.correct(wrong(drift()))
        watched.vigil.recorded({WEB: "one"})
        assert not watched.correct(wrong(drift()), 1.0)

    def test_none_where_policy_or_protection_says_no(self) -> None:
        watched = Watched()
        report, ignore = drift(policy=DriftPolicy.REPORT), drift(DB, policy=DriftPolicy.IGNORE)
        kept = drift(Address("kept"), why_not="it is protected")
        verdict = watched.look(wrong(report, ignore, kept))
        assert (verdict.due, verdict.waiting) == (frozenset(), frozenset())
        assert watched.told == ["+drift:web", "+refused:kept"]

    def test_none_when_it_is_too_many_at_once(self) -> None:
        watched = Watched()
        refused = wrong(drift(), drift(DB), refusals=("2 of 2 ended",))
        assert watched.look(refused).due == frozenset()
        assert watched.told == ["+fleet:", "+drift:web", "+drift:db"]
        assert watched.look(wrong(drift())).due == {WEB}
        assert watched.told[3:] == ["-drift:db", "-fleet:"]


class TestReadiness:
    def test_it_is_silent_after_so_many_failures_of_so_many_probes(self) -> None:
        watched = Watched()
        for answers in (False, True, False):
            watched.vigil.probed(WEB, "web-1", answers, 0.0)
            assert not watched.vigil.silent
        watched.vigil.probed(WEB, "web-1", False, 0.0)
        assert watched.vigil.silent == {WEB}

    def test_one_answer_is_enough_not_to_be(self) -> None:
        watched = Watched()
        for answers in (False, False, False, True):
            watched.vigil.probed(WEB, "web-1", answers, 0.0)
        assert not watched.vigil.silent

    def test_what_another_object_answered_does_not_count(self) -> None:
        watched = Watched()
        for identity in ("web-1", "web-1", "web-2"):
            watched.vigil.probed(WEB, identity, False, 0.0)
        assert not watched.vigil.silent

    def test_a_suspect_is_asked_again_soon(self) -> None:
        watched = Watched()
        watched.vigil.probed(WEB, "web-1", True, 5.0)
        assert watched.vigil.wake(5.0) is None
        watched.vigil.probed(WEB, "web-1", False, 5.0)
        assert watched.vigil.wake(6.0) == 5.0 + DAMPING.probe_again


class TestIncidents:
    def test_each_is_told_once_and_its_end_once(self) -> None:
        watched = Watched()
        for _ in range(3):
            watched.look(wrong(drift()))
        for _ in range(3):
            watched.look(well(WEB))
        assert watched.told == ["+drift:web", "-drift:web"]

    def test_what_cannot_be_seen_is_not_over(self) -> None:
        watched = Watched()
        watched.look(wrong(drift()))
        watched.look(Sight(unseen={WEB}, failures={"main": "no answer"}))
        assert watched.told == ["+drift:web", "+backend:main"]
        watched.look(well(WEB))
        assert watched.told[2:] == ["-backend:main", "-drift:web"]

    def test_what_cannot_be_seen_keeps_its_pauses(self) -> None:
        watched = Watched()
        watched.correct(wrong(drift()))
        watched.look(Sight(unseen={WEB}, failures={"main": "no answer"}))
        assert not watched.correct(wrong(drift()), 1.0)

    def test_one_that_is_not_declared_any_more_is_over(self) -> None:
        watched = Watched()
        watched.look(wrong(drift()))
        watched.look(Sight())
        assert watched.told == ["+drift:web", "-drift:web"]
        assert not watched.vigil.patients

    def test_what_no_look_shows_is_over_when_that_is_said(self) -> None:
        from reconciler.model.watching import Incident

        watched = Watched()
        broken = Incident(kind=IncidentKind.CONFIGURATION, subject="", summary="line 3", at=1.0)
        watched.hear(watched.vigil.opened(broken))
        watched.hear(watched.vigil.opened(broken))
        watched.look(well(WEB))
        watched.hear(watched.vigil.closed(IncidentKind.CONFIGURATION, "", 9.0))
        watched.hear(watched.vigil.closed(IncidentKind.CONFIGURATION, "", 9.0))
        assert watched.told == ["+configuration:", "-configuration:"]


def test_what_was_told_and_waits_concerns_nobody_until_it_is_due() -> None:
    watched = Watched()
    sight = wrong(drift())
    assert watched.vigil.concerns(sight, 0.0)
    watched.correct(sight)
    assert not watched.vigil.concerns(sight, 1.0)
    assert watched.vigil.concerns(sight, 10.0)
    assert not watched.vigil.concerns(wrong(drift(policy=DriftPolicy.IGNORE)), 10.0)


def test_what_is_not_declared_any_more_leaves_nothing_behind() -> None:
    watched = Watched()
    for number in range(200):
        address = Address(f"web[{number}]")
        watched.correct(wrong(drift(address)), 60.0)
        watched.look(well(WEB), 60.0)
    kept = (watched.vigil.patients, watched.vigil.incidents, watched.vigil._where, watched.vigil._seen)
    assert sum(len(each) for each in kept) <= 4
