"""A plan as a pull-request comment."""

from __future__ import annotations

import pytest
from cli_models import (
    change,
    create,
    mixed_plan,
    moved,
    plan,
    refusal,
    refused_plan,
    rollout_plan,
    step,
    waves,
)

from reconciler.cli.views.markdown import LIMIT, code, plan_markdown
from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.plan import Action, Reason, Selection


def test_one_of_everything_reads_as_the_golden_file(golden):
    note = Diagnostic(
        severity=Severity.NOTE, code="not-enforced", summary="goes without `image: aio:2` of @scout"
    )
    made = plan(*mixed_plan().steps, unchanged=(Address("idle"),), diagnostics=(note,))
    golden("plan.md", plan_markdown(made))


def visible(markdown: str) -> str:
    """What is to be seen before anything is unfolded."""
    out, depth = [], 0
    for line in markdown.splitlines():
        depth += line.startswith("<details>")
        if not depth:
            out.append(line)
        depth -= line.startswith("</details>")
    assert depth == 0
    return "\n".join(out)


def test_what_is_destroyed_is_seen_without_unfolding_anything():
    shown = visible(plan_markdown(mixed_plan()))
    for name in ("`legacy`", "`db`", '`region["eu"]`'):
        assert name in shown
    assert "scout" not in shown


@pytest.mark.parametrize("action", [Action.CREATE, Action.UPDATE, Action.DESTROY, Action.REPLACE])
def test_the_comment_of_a_huge_plan_stays_under_the_limit(action):
    steps = [
        step(
            f"sandbox-{n}",
            action,
            Reason.CONFIG_CHANGED,
            changes=(change("environment.X", "a" * 90, "`" * n),),
        )
        for n in range(2000)
    ]
    made = plan_markdown(plan(*steps))
    assert len(made) < LIMIT
    assert "see `reconciler plan`" in made
    assert made.count("<details>") == made.count("</details>")


def test_a_huge_number_of_destroys_still_shows_the_other_sections_or_says_what_is_left():
    doomed = [step(f"sandbox-{n}", Action.DESTROY, Reason.REMOVED) for n in range(5000)]
    made = plan_markdown(plan(*doomed, create("fresh", {"image": "x"})))
    assert len(made) < LIMIT
    assert "more of these" in made


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("x\x1b[2J", "`x\\x1b[2J`")],
    ids=["plain", "a backtick inside", "only a backtick", "an escape"],
)
def test_inline_code_holds_anything(text, shown):
    assert code(text) == shown


def test_values_cannot_break_out_of_their_fence():
    evil = "```\n</details> <script> @everyone"
    made = plan_markdown(
        plan(step("a", Action.UPDATE, Reason.CONFIG_CHANGED, changes=(change("image", evil, evil),)))
    )
    lines = made.splitlines()
    assert "````diff" in lines
    assert lines.count("</details>") == 1


def test_details_of_backends_cannot_mention_people_or_open_tags():
    made = plan_markdown(plan(step("a", Action.DESTROY, Reason.DEAD, detail="<img src=x> @team *b*")))
    assert "<img" not in made
    assert "@team" not in made
    assert "\\*b\\*" in made


def test_an_empty_plan_says_so_in_three_lines():
    made = plan_markdown(plan(unchanged=(Address("a"),)))
    assert "No changes. The sandbox of stack research is as declared." in made
    assert "<details>" not in made


def test_a_rollout_and_all_that_goes_with_it_read_as_the_golden_file(golden):
    golden("plan-rollout.md", plan_markdown(rollout_plan()))


def test_a_refused_plan_reads_as_the_golden_file(golden):
    golden("plan-refused.md", plan_markdown(refused_plan()))


def test_refusals_come_before_everything_else_and_are_never_folded():
    shown = visible(plan_markdown(refused_plan()))
    assert shown.index("> [!CAUTION]") < shown.index("**Plan:")
    assert "> - it destroys 5 sandboxes" in shown


def test_what_a_rollout_and_a_repair_take_down_is_seen_without_unfolding_anything():
    shown = visible(plan_markdown(rollout_plan()))
    assert "`researcher[0..9] (10×)` (replace)" in shown
    assert "first waits for it again, then restarts it; replaced only if that does not help" in shown


def test_moves_rollouts_and_what_expires_fold_away():
    made = plan_markdown(rollout_plan())
    for words in ("scout[0..2] → scouts[0..2]", "1 canary  researcher[0]", "expires in 14m"):
        assert words in made
        assert words not in visible(made)


@pytest.mark.parametrize("what", ["moves", "rollouts", "refusals", "left out", "targets"])
def test_the_comment_stays_under_the_limit_however_much_a_plan_holds_beside_its_steps(what):
    many = range(3000)
    more = {
        "moves": {"moves": tuple(moved(f"a-long-name-{n}", f"another-name-{n}") for n in many)},
        "rollouts": {"rollouts": tuple(waves(f"group-{n}", *[1] * 20) for n in many)},
        "refusals": {"refusals": tuple(refusal(f"{n} " * 300) for n in many)},
        "left out": {"left_out": tuple(Address("x" * 300 + str(n)) for n in many)},
        "targets": {"selection": Selection(targets=tuple(f"target-{n}" for n in many))},
    }[what]
    made = plan_markdown(plan(step("doomed", Action.DESTROY, Reason.REMOVED), **more))
    assert len(made) < LIMIT
    assert "`doomed`" in visible(made)
