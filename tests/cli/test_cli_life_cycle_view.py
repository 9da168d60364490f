"""What a plan holds beside its steps, as people read it: moves, rollouts, refusals, what is left out and what expires."""

from __future__ import annotations

import re

import pytest
from cli_models import (
    broken,
    create,
    moved,
    plan,
    refusal,
    refused_plan,
    replaced,
    rollout_plan,
    seen,
    step,
    waves,
)

from reconciler.cli.views.grouping import blocks
from reconciler.cli.views.human import plan_text
from reconciler.cli.views.style import PLAIN, Style, cells
from reconciler.cli.views.summary import summary
from reconciler.cli.views.values import span
from reconciler.model.desired import Address
from reconciler.model.plan import Action, Plan, Reason, Rung, Selection


def text(made: Plan, width: int = 100) -> str:
    return plan_text(made, width=width, style=PLAIN)


def names(group: str, count: int) -> tuple[Address, ...]:
    return tuple(Address(f"{group}[{index}]") for index in range(count))


def expiring(**seconds: float) -> Plan:
    return plan(
        unchanged=tuple(map(Address, seconds)),
        expiring={Address(name): value for name, value in seconds.items()},
    )


@pytest.mark.parametrize("width", [140, 60])
def test_a_rollout_and_all_that_goes_with_it_read_as_the_golden_file(width, golden):
    golden(f"plan-rollout-{width}.txt", text(rollout_plan(), width))


def test_a_refused_plan_reads_as_the_golden_file(golden):
    golden("plan-refused-80.txt", text(refused_plan(), 80))


@pytest.mark.parametrize("width", [40, 41, 60, 80, 100, 140])
@pytest.mark.parametrize("made", [rollout_plan(), refused_plan()], ids=["rollout", "refused"])
def test_no_line_is_wider_than_the_terminal(made, width):
    assert max(map(cells, text(made, width).splitlines())) <= width


@pytest.mark.parametrize("width", [40, 79])
def test_long_names_still_fit_in_every_section(width):
    long = "y" * 90
    made = plan(
        step(f"{long}[0]", Action.UPDATE, Reason.CONFIG_CHANGED, needed_by="z" * 90, wave=1),
        moves=(moved(long, "z" * 90),),
        rollouts=(waves(long, 1, 1, min_healthy=3600.0),),
        left_out=(Address("w" * 200),),
        unchanged=(Address("v" * 90),),
        expiring={Address("v" * 90): 90.0},
        selection=Selection(targets=("u" * 90,), refresh=False),
        refusals=(refusal("t" * 200, related=(("s" * 90, refusal().position),)),),
    )
    assert max(map(cells, text(made, width).splitlines())) <= width


@pytest.mark.parametrize("made", [rollout_plan(), refused_plan()], ids=["rollout", "refused"])
def test_colour_changes_nothing_but_the_colour(made):
    coloured = plan_text(made, width=100, style=Style(colour=True))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text(made)


def test_terminal_escapes_are_written_out_wherever_a_plan_has_text():
    evil = "\x1b[2J\u202e\x07"
    made = plan(
        broken(f"a{evil}", passed_over=(evil,), needed_by=evil),
        moves=(moved(f"b{evil}", f"c{evil}"),),
        rollouts=(waves(f"d{evil}", 1, 1),),
        left_out=(Address(f"e{evil}"),),
        unchanged=(Address(f"f{evil}"),),
        expiring={Address(f"f{evil}"): 5.0},
        selection=Selection(targets=(evil,)),
        refusals=(refusal(evil, fix=evil),),
    )
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text(made, 140))


# -- moves


def test_a_plan_that_only_moves_records_shows_them_and_says_that_no_sandbox_changes():
    made = plan(moves=(moved("old", "new"),), unchanged=(Address("new"),))
    assert text(made).splitlines() == [
        "Moved:",
        "",
        "    old → new  sandboxes.yaml:12",
        "",
        "No sandbox changes; 1 record moves.",
    ]
    assert summary(plan(moves=(moved("a", "b"), moved("c", "d")))) == "No sandbox changes; 2 records move."


def test_replicas_that_move_by_one_line_are_one_row():
    made = plan(moves=tuple(moved(f"a[{n}]", f"b[{n}]") for n in range(50)))
    assert "    a[0..49] → b[0..49] (50×)  sandboxes.yaml:12" in text(made)


def test_replicas_that_change_places_are_rows_of_their_own():
    made = plan(moves=(moved("a[0]", "a[1]"), moved("a[1]", "a[0]")))
    assert "a[0] → a[1]" in text(made)
    assert "a[1] → a[0]" in text(made)


def test_moves_count_in_the_last_line():
    assert summary(plan(create("a", {}), moves=(moved("b", "c"),))).endswith("0 to destroy, 1 to move.")


# -- rollouts


def test_the_replicas_of_a_rollout_are_one_block_though_each_waits_for_the_wave_before():
    steps = [
        replaced("r[0]", wave=1),
        replaced("r[1]", wave=2, needs=("r[0]",)),
        replaced("q", needs=("r[1]",)),
    ]
    assert [block.title for block in blocks(steps)] == ["r[0..1] (2×)", "q"]
    assert "after r[0]" not in text(plan(*steps))
    assert "after r[1]" in text(plan(*steps))


def test_what_a_rollout_waits_for_outside_of_its_group_is_said():
    assert "after db" in text(plan(replaced("r[0]", wave=1, needs=("db",))))


@pytest.mark.parametrize(
    ("more", "title"),
    [
        ({}, "Rollout of r: 3 waves, at most 2 of 5 down at a time, each ready before the next"),
        (
            {"min_healthy": 90.0},
            "Rollout of r: 3 waves, at most 2 of 5 down at a time, each healthy for 1m30s before the next",
        ),
    ],
    ids=["ready is enough", "healthy for a while"],
)
def test_a_rollout_says_how_it_goes(more, title):
    made = waves("r", 1, 2, 2, **more)
    assert (
        text(plan(*(replaced(key) for wave in made.waves for key in wave), rollouts=(made,))).count(title)
        == 1
    )


def test_a_rollout_that_takes_nothing_down_does_not_say_down():
    steps = [replaced(f"r[{n}]", create_first=True) for n in range(2)]
    assert "at most 1 of 2 at a time" in text(plan(*steps, rollouts=(waves("r", 1, 1),)))


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({}, "stops at the first bad wave"),
        ({"auto_revert": True}, "stops at the first bad wave, and takes changed ones back (auto_revert)"),
    ],
    ids=["stops", "takes back"],
)
def test_a_rollout_says_what_a_bad_wave_does(more, end):
    assert f"    {end}" in text(plan(replaced("r[0]"), rollouts=(waves("r", 1, 1, **more),))).splitlines()


def test_the_middle_of_a_long_rollout_is_cut_out_and_counted():
    shown = text(plan(replaced("r[0]"), rollouts=(waves("r", *[2] * 500),)))
    assert "… " in shown
    assert "492 more waves: r[10..993] (984×)" in shown
    assert "    500  r[998..999] (2×)" in shown
    assert len(shown.splitlines()) < 25


# -- what was selected


def test_a_part_of_the_plan_says_by_what_it_was_selected_as_it_would_be_typed():
    selection = Selection(targets=("researcher", "r*"), excludes=("scout[0]",))
    first = text(plan(create("a", {}), selection=selection)).splitlines()[0]
    assert first == "Selected by --target researcher --target 'r*' --exclude 'scout[0]'."


def test_a_selection_without_changes_claims_nothing_of_the_rest():
    made = plan(selection=Selection(targets=("a",)), left_out=(Address("b"),), unchanged=(Address("a"),))
    assert summary(made) == "No changes among what was selected."
    assert "1 address with changes left out (not selected): b" in text(made)


def test_what_was_left_out_is_counted_and_a_long_list_is_cut():
    left = tuple(Address(f"s{n}") for n in range(30))
    shown = text(plan(create("a", {}), left_out=left, selection=Selection(excludes=("s*",))), 200)
    assert "30 addresses with changes left out (not selected): s0, s1, " in shown
    assert "s7, and 22 more groups" in shown


def test_what_a_rollout_holds_back_is_not_called_unselected():
    shown = text(plan(create("a", {}), left_out=(Address("s"),)), 200)
    assert "1 address with changes left out (their rollout waits): s" in shown


def test_a_plan_that_asked_no_backend_says_so_first_and_claims_no_more_than_what_is_recorded():
    made = plan(unchanged=(Address("a"),), selection=Selection(refresh=False))
    first, *_, last = text(made).splitlines()
    assert first == "Planned on what is recorded: no backend was asked (--no-refresh)."
    assert last == "No changes. The sandbox of stack research is recorded as declared."


def test_a_plan_for_records_only_says_that_no_sandbox_is_touched():
    only = Selection(refresh_only=True)
    seen_step = step("a", Action.ADOPT, Reason.SEEN)
    assert summary(plan(seen_step, selection=only)) == (
        "Plan: 1 to adopt; records only, no sandbox is touched."
    )
    assert summary(plan(selection=only)) == (
        "No changes. The records of stack research are as its sandboxes are; no sandbox is touched."
    )


def test_what_is_let_go_is_told_from_what_is_gone():
    made = plan(step("a", Action.FORGET, Reason.LET_GO), step("b", Action.FORGET, Reason.GONE))
    assert "it runs on, and is nobody's" in text(made)
    assert summary(made).endswith("1 to forget, 1 to let go.")


# -- repairs


@pytest.mark.parametrize(
    ("rungs", "line"),
    [
        ((Rung.PROBE,), "first waits for it again; replaced only if that does not help"),
        ((Rung.RESTART,), "first restarts it; replaced only if that does not help"),
        (
            (Rung.PROBE, Rung.RESTART),
            "first waits for it again, then restarts it; replaced only if that does not help",
        ),
    ],
    ids=["waits", "restarts", "both"],
)
def test_a_repair_says_what_it_tries_before_it_replaces(rungs, line):
    assert f"      {line}" in text(plan(broken("a", rungs=rungs))).splitlines()


def test_a_repair_says_why_something_cheaper_is_not_tried():
    made = plan(broken("a", rungs=(), passed_over=("not restarted: environment.LEVEL changed",)))
    assert "      not restarted: environment.LEVEL changed" in text(made).splitlines()


def test_the_legend_promises_a_replacement_only_where_nothing_is_tried_before():
    assert "! repair: mend what broke, or replace it" in text(plan(broken("a")))
    assert "! repair: replace what broke" in text(plan(broken("a", rungs=())))


def test_repairs_that_try_different_things_stay_apart():
    assert len(blocks([broken("a[0]"), broken("a[1]", rungs=())])) == 2


# -- refusals


def test_refusals_are_the_last_thing_said_with_what_tripped_and_the_place():
    lines = text(refused_plan(), 140).splitlines()
    assert lines[lines.index("Refused:") - 2].endswith("Refused, so it is not carried out.")
    after = lines[lines.index("Refused:") :]
    assert "  ✗ it destroys 5 sandboxes, and `policy.max_destroy` is 2  sandboxes.yaml:31" in after
    assert "    fix: select fewer with `--target`" in after
    assert "    protected here: sandboxes.yaml:7" in after


def test_a_refused_plan_never_invites_to_apply():
    assert "reconciler apply" not in text(refused_plan())


# -- what expires


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "expires now"),
        (45.0, "expires in 45s"),
        (850.0, "expires in 14m"),
        (8 * 3600.0, "expires in 8h"),
    ],
    ids=["now", "seconds", "minutes", "hours"],
)
def test_what_expires_today_is_said_though_nothing_is_to_do(seconds, shown):
    assert text(expiring(a=seconds)).splitlines()[:3] == ["Expiring:", "", f"    a  {shown}"]


def test_what_expires_later_or_is_replaced_anyway_is_not_said():
    assert "Expiring" not in text(expiring(a=25 * 3600.0))
    assert "Expiring" not in text(plan(replaced("a"), expiring={Address("a"): 60.0}))


def test_of_many_that_expire_the_soonest_are_shown_and_the_rest_counted():
    lines = text(expiring(**{f"s{n}": 7000.0 - 300 * n for n in range(12)})).splitlines()
    assert lines[2] == "    s11  expires in 61m"
    assert lines[7] == "    … and 7 more within a day"


def test_replicas_that_expire_together_are_one_row():
    made = plan(unchanged=names("r", 40), expiring=dict.fromkeys(names("r", 40), 600.0))
    assert "    r[0..39] (40×)  expires in 10m" in text(made)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "250ms"), (1.5, "1.5s"), (10, "10s"), (90, "1m30s"), (8 * 3600, "8h"), (3601, "1h1s")],
)
def test_lengths_of_time_are_written_as_they_are_declared(seconds, shown):
    assert span(seconds) == shown


def test_a_step_that_was_not_selected_says_who_needs_it():
    made = plan(step("db", Action.DESTROY, Reason.REMOVED, current=seen("db"), needed_by="r[0]"))
    assert "      not selected, but needed by r[0]" in text(made).splitlines()
