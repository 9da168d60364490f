"""Plain lines, the live picture and the final table of an apply."""

from __future__ import annotations

import io
import re

import pytest
from cli_models import create, info, mixed_plan, plan, result

from reconciler.cli.views.live import Board, LiveProgress, frame
from reconciler.cli.views.plain import PlainProgress
from reconciler.cli.views.report import masked, outputs_text, report_text, tally
from reconciler.cli.views.style import PLAIN, Style, cells
from reconciler.model.desired import Address
from reconciler.model.event import Activity, ApplyEnded, Event, Planned, StepEnded, StepProgress, StepStarted
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action

FAILED = StepStatus.FAILED


def started(address: str, action: Action = Action.CREATE) -> StepStarted:
    return StepStarted(address=Address(address), action=action, key=address)


def progress(address: str, activity: Activity, elapsed: float, note: str = "", **more) -> StepProgress:
    return StepProgress(
        address=Address(address),
        action=more.get("action", Action.CREATE),
        key=address,
        activity=activity,
        elapsed=elapsed,
        note=note,
    )


def ended(outcome: StepResult) -> StepEnded:
    return StepEnded(result=outcome, key=outcome.address)


def failed(address: str = "db") -> StepResult:
    return result(
        address,
        FAILED,
        action="replace",
        error="it did not answer on /v1/sandbox within 60s: connection refused",
        hint="read its log with `reconciler logs db`",
        attempts=3,
        seconds=60.2,
        log_tail=("starting", "\x1b[31mTraceback", "KeyError: 'TOKEN'"),
    )


def run() -> list[Event]:
    return [
        Planned(plan=mixed_plan()),
        started("researcher[0]"),
        progress("researcher[0]", Activity.CREATING, 0.0),
        started("db", Action.REPLACE),
        progress("db", Activity.DESTROYING, 0.1, action=Action.REPLACE),
        progress("researcher[0]", Activity.WAITING, 0.4),
        progress("researcher[0]", Activity.WAITING, 0.9),
        progress("db", Activity.RETRYING, 1.0, "engine busy, again in 2.0s", action=Action.REPLACE),
        ended(result("researcher[0]", seconds=1.3)),
        ended(failed()),
        ended(result("scout[0]", StepStatus.SKIPPED, error="db failed", seconds=0.0)),
        started("old", Action.DESTROY),
        ended(result("old", action="destroy", info=None)),
        ended(result("late", StepStatus.NOT_STARTED, seconds=0.0)),
        ended(result("moved", StepStatus.STALE, action="update", error="generation 2, planned on 1")),
    ]


def results() -> list[StepResult]:
    return [event.result for event in run() if isinstance(event, StepEnded)]


def plain(events: list[Event], style: Style = PLAIN) -> list[str]:
    lines: list[str] = []
    view = PlainProgress(lines.append, style)
    for event in events:
        view(event)
    return lines


def test_plain_lines_are_one_for_each_change_of_state(golden):
    golden("progress.txt", "\n".join(plain(run())) + "\n")


def test_the_same_state_twice_is_one_line():
    waiting = [progress("a", Activity.WAITING, seconds) for seconds in (1.0, 2.0, 3.0)]
    assert plain(waiting) == ["a: waiting for readiness (1.0s)"]


def test_a_state_that_comes_back_is_said_again():
    states = (Activity.WAITING, Activity.RETRYING, Activity.WAITING)
    assert len(plain([progress("a", activity, 1.0) for activity in states])) == 3


def pulling(seconds: float, note: str) -> StepProgress:
    return progress("a", Activity.CREATING, seconds, note)


def test_numbers_that_only_move_are_a_line_now_and_then_and_ever_less_often():
    steps = [pulling(n / 4, f"pulling app:1  {n} of 2400 MB") for n in range(2400)]  # ten minutes
    lines = plain([started("a"), *steps])
    assert lines[:4] == [
        "a: creating",
        "a: creating: pulling app:1  0 of 2400 MB (0.0s)",
        "a: creating: pulling app:1  8 of 2400 MB (2.0s)",
        "a: creating: pulling app:1  16 of 2400 MB (4.0s)",
    ]
    assert 20 < len(lines) < 40


def test_another_thing_being_done_is_a_line_at_once():
    notes = ["pulling app:1  34 of 120 MB", "unpacking app:1", "", "pulling app:1  34 of 120 MB"]
    lines = plain([pulling(1 + n / 4, note) for n, note in enumerate(notes)])
    assert [line.split(" (")[0] for line in lines] == [
        "a: creating: pulling app:1  34 of 120 MB",
        "a: creating: unpacking app:1",
        "a: creating: pulling app:1  34 of 120 MB",
    ]


def test_retries_are_never_held_back():
    notes = ["busy; again in 0.5s", "busy; again in 1.0s"]
    assert len(plain([progress("a", Activity.RETRYING, n / 10, note) for n, note in enumerate(notes)])) == 2


def test_the_live_picture_shows_how_far_it_is_where_there_is_no_room_for_all():
    note = "pulling ghcr.io/agent-infra/sandbox:latest  34 of 120 MB"
    made = board((started("a"), 0.0), (pulling(1.0, note), 1.0))
    shown = {width: frame(made, now=5.0, width=width, height=24)[0] for width in (100, 70, 40)}
    assert shown[100].endswith(f"creating: {note}")
    assert shown[70].endswith(f"5.0s  {note}")
    assert shown[40].endswith("120 MB")
    assert all(cells(line) <= width for width, line in shown.items())


def test_a_note_that_is_over_goes_from_the_picture():
    made = board(
        (started("a"), 0.0), (pulling(1.0, "pulling"), 1.0), (progress("a", Activity.WAITING, 2), 2.0)
    )
    assert frame(made, now=5.0, width=100, height=24)[0].endswith("waiting for readiness")


def test_a_wait_that_was_interrupted_is_not_called_a_failure():
    left = result(
        "a", StepStatus.INTERRUPTED, error="it was not ready yet", hint="apply again to wait for it"
    )
    assert plain([ended(left)]) == ["a: create interrupted after 1.2s: it was not ready yet"]
    shown = report_text([left], seconds=1, interrupted=True, width=100, style=PLAIN)
    assert "fail" not in shown
    assert "a        create  interrupted  1.2s  it was not ready yet" in shown


def test_the_end_of_a_destroy_says_destroy():
    gone = result("a", action="destroy", info=None)
    shown = report_text([gone], seconds=1, interrupted=False, width=100, style=PLAIN, destroy=True)
    assert shown.splitlines()[-1] == "Destroy complete: 1 destroyed in 1.0s."
    shown = report_text([gone, failed()], seconds=1, interrupted=False, width=140, style=PLAIN, destroy=True)
    assert "\nDestroy incomplete: 1 destroyed, 1 failed in 1.0s.\n" in shown
    assert "run `reconciler destroy` again" in shown


@pytest.mark.parametrize("width", [140, 60])
def test_the_final_table_reads_as_the_golden_file(width, golden):
    shown = report_text(results(), seconds=61.3, interrupted=False, width=width, style=PLAIN)
    golden(f"report-{width}.txt", shown)
    assert max(map(cells, shown.splitlines())) <= width


def test_the_final_table_of_a_big_fleet_counts_what_worked_and_lists_what_did_not():
    many = [result(f"r[{n}]") for n in range(500)]
    shown = report_text([*many, failed()], seconds=9, interrupted=False, width=100, style=PLAIN)
    assert "… and 500 sandboxes done" in shown
    assert len(shown.splitlines()) < 20
    assert "db       replace  failed" in shown


def test_replicas_that_failed_alike_are_told_once():
    pair = [failed("r[0]"), failed("r[1]"), failed("db")]
    shown = report_text(pair, seconds=9, interrupted=False, width=100, style=PLAIN)
    assert "r[0..1] (2×): replace failed" in shown
    assert shown.count("it did not answer") == 2


@pytest.mark.parametrize(
    ("outcomes", "interrupted", "line"),
    [
        (
            [result("a"), result("b", action="destroy")],
            False,
            "Apply complete: 1 created, 1 destroyed in 4.2s.",
        ),
        ([result("a"), failed()], False, "Apply incomplete: 1 created, 1 failed in 4.2s."),
        (
            [result("a"), result("b", StepStatus.NOT_STARTED)],
            True,
            "Interrupted: 1 created, 1 not started in 4.2s.",
        ),
        ([], False, "Apply complete: nothing to do in 4.2s."),
    ],
    ids=["all done", "one failed", "interrupted", "nothing"],
)
def test_the_tally_says_what_became_of_the_steps(outcomes, interrupted, line):
    assert tally(outcomes, seconds=4.2, interrupted=interrupted) == line


@pytest.mark.parametrize(
    ("outcome", "next_step"),
    [
        (failed(), "run `reconciler apply` again"),
        (result("a", StepStatus.STALE), "`reconciler plan` to see what is left"),
    ],
    ids=["after a failure", "after a move"],
)
def test_an_incomplete_apply_says_what_to_do_next(outcome, next_step):
    shown = report_text([outcome], seconds=1, interrupted=False, width=140, style=PLAIN)
    assert next_step in shown.splitlines()[-1]


def test_outputs_are_sorted_and_sensitive_ones_masked():
    shown = outputs_text(masked({"url": ("http://x", False), "key": ("hunter2", True)}), style=PLAIN)
    assert shown.splitlines() == ["Outputs:", "  key  •••", "  url  http://x"]


def board(*events: tuple[Event, float]) -> Board:
    made = Board()
    for event, now in events:
        made.take(event, now)
    return made


def test_the_live_picture_shows_each_active_sandbox_and_a_bar(golden):
    made = board(
        (Planned(plan=mixed_plan()), 100.0),
        (started("researcher[0]"), 100.0),
        (started("db", Action.REPLACE), 101.0),
        (progress("db", Activity.RETRYING, 1.0, "engine busy"), 102.0),
        (progress("researcher[0]", Activity.WAITING, 2.5), 102.5),
        (started("old"), 102.0),
        (ended(result("old")), 103.0),
        (ended(failed("x")), 103.0),
        (ended(result("y", StepStatus.SKIPPED)), 103.0),
    )
    golden("live.txt", "\n".join(frame(made, now=112.0, width=80, height=24)) + "\n")


@pytest.mark.parametrize("height", [5, 10, 24, 60])
def test_the_live_picture_of_a_big_fleet_never_outgrows_the_terminal(height):
    made = board(*((started(f"r[{n}]"), float(n)) for n in range(44)))
    lines = frame(made, now=50.0, width=60, height=height)
    assert len(lines) < height
    hidden = 44 - (len(lines) - 2)
    assert height == 60 or lines[-2] == f"  … and {hidden} more"


@pytest.mark.parametrize("height", [8, 24])
def test_a_notice_stands_under_the_bar_and_the_picture_still_fits(height):
    made = board(*((started(f"r[{n}]"), float(n)) for n in range(44)))
    made.notice = "stopping: " + "what is under way is finished " * 3
    lines = frame(made, now=50.0, width=60, height=height)
    assert len(lines) < height
    assert lines[-2].startswith("stopping: what is under way")


@pytest.mark.parametrize("width", [40, 60, 140])
def test_the_live_picture_is_never_wider_than_the_terminal(width):
    made = board((started("a" * 200), 0.0), (progress("b\x1b[2J", Activity.RETRYING, 0.5, "why " * 90), 1.0))
    lines = frame(made, now=5.0, width=width, height=24)
    assert max(map(cells, lines)) <= width
    assert "\x1b" not in "".join(lines)


def test_the_live_view_prints_a_failure_at_once_and_leaves_the_terminal_clean():
    screen = io.StringIO()
    made = plan(*(create(f"r[{n}]", {}) for n in range(2)))
    with LiveProgress(screen, PLAIN, clock=lambda: 7.0) as view:
        view(Planned(plan=made))
        view(started("r[0]"))
        view(ended(failed("r[0]")))
        before_the_end = screen.getvalue()
        view(ApplyEnded(results=(), outputs=(), seconds=1.0))
    assert "r[0]: replace failed after 60.2s" in before_the_end
    assert "\x1b[31mTraceback" not in before_the_end
    assert re.findall(r"\x1b\[\?25[lh]", screen.getvalue())[-1:] in ([], ["\x1b[?25h"])


def test_a_result_that_is_live_says_where_it_answers():
    (line,) = plain([ended(result("a", info=info("a", 4711)))])
    assert line == "a: created after 1.2s at http://127.0.0.1:4711"


TRIED = ("waited again: not ready after 5s", "restarted: it answers")


def test_a_repair_says_what_it_came_to():
    mended = result("r[1]", action="repair", tried=TRIED)
    shown = report_text([mended], seconds=6, interrupted=False, width=140, style=PLAIN)
    assert "\nr[1]: waited again: not ready after 5s; restarted: it answers\n" in shown


def test_repairs_that_went_the_same_way_are_one_line_and_many_others_are_counted():
    alike = [result(f"r[{n}]", action="repair", tried=TRIED) for n in range(30)]
    apart = [result(f"s{n}", action="repair", tried=TRIED) for n in range(25)]
    shown = report_text([*alike, *apart], seconds=6, interrupted=False, width=140, style=PLAIN)
    assert "\nr[0..29] (30×): waited again: " in shown
    assert "\n… and 6 more repairs\n" in shown


def test_a_repair_that_failed_says_what_was_tried_before_once():
    pair = [result(f"r[{n}]", FAILED, action="repair", error="no room", tried=TRIED) for n in range(2)]
    shown = report_text(pair, seconds=6, interrupted=False, width=140, style=PLAIN)
    assert "  tried before: waited again: not ready after 5s; restarted: it answers\n" in shown
    assert shown.count("waited again") == 1


@pytest.mark.parametrize("width", [40, 80])
def test_what_was_tried_fits_the_terminal_and_cannot_move_its_cursor(width):
    evil = ("restarted: \x1b[2J it ended again " * 9,)
    outcomes = [
        result("r[0]", action="repair", tried=evil),
        result("r[1]", FAILED, action="repair", tried=evil),
    ]
    shown = report_text(outcomes, seconds=6, interrupted=False, width=width, style=PLAIN)
    assert "\x1b" not in shown
    assert max(map(cells, shown.splitlines())) <= width
