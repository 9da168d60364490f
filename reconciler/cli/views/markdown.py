"""A plan for a pull-request comment: what is destroyed is always visible, the rest folds away, and it all fits.

Values go into fences longer than any run of backticks in them, so that none of them is ever read as markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reconciler.cli.views import wording
from reconciler.cli.views.fields import FIELD, rows_text
from reconciler.cli.views.grouping import Block, blocks
from reconciler.cli.views.human import reason_text, remarks
from reconciler.cli.views.legend import MEANING
from reconciler.cli.views.style import PLAIN, fit, fit_middle, harmless
from reconciler.cli.views.summary import summary
from reconciler.cli.views.values import counted
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.plan import Action, Plan, Reason, Waves

LIMIT = 60_000  # comments are cut by the forges somewhat above this
_RESERVED = 2_000  # for the titles of parts that had to be cut
_WIDTH = 120
_MARKER = {Severity.ERROR: "🛑", Severity.WARNING: "⚠️", Severity.NOTE: "🛈"}
_HEADINGS = {  # without DESTROY, which is told in full above
    Action.REPLACE: "Replaced",
    Action.REPAIR: "Repaired",
    Action.UPDATE: "Changed in place",
    Action.CREATE: "Created",
    Action.ADOPT: "Adopted",
    Action.FORGET: "Forgotten",
}
_LET_GO = "Let go, and running on"
_MOST_SELECTED = 400  # characters


def plan_markdown(plan: Plan) -> str:
    """The comment, under 60,000 characters. Its first line is a mark by which a bot finds it again."""
    out = _Page()
    out.add(f"<!-- reconciler plan {re.sub('[^A-Za-z0-9_.-]', '-', plan.stack)} -->")
    out.add(f"### Plan for stack {code(plan.stack)}\n")
    if plan.refusals:
        out.add("> [!CAUTION]\n> **Refused: `reconciler apply` does not do this.**\n>")
        out.each(
            (f"> - {_refusal(refusal)}" for refusal in plan.refusals), "more reasons", quote="> ", most=50
        )
        out.add("")
    for scope in _scope(plan):
        out.add(f"*{_escape(scope)}*\n")
    out.add(f"**{_escape(summary(plan))}**")
    steps = blocks(plan.steps)
    losing = [block for block in steps if block.step.destroys]
    if losing:
        out.add("\n#### What is taken down")
        out.each((_loss(block) for block in losing), "more of these")
    if plan.diagnostics:
        out.add("\n#### Remarks")
        out.each((f"- {_remark(diagnostic)}" for diagnostic in plan.diagnostics), "more remarks")
    _fold_all(out, plan, steps)
    if plan.unchanged and plan.steps:
        out.add(f"\n{counted(len(plan.unchanged), 'other sandbox', 'other sandboxes')} unchanged.")
    if plan.left_out:
        out.add(f"\n{_escape(fit(wording.left_out(plan), 8 * _WIDTH))}")
    return out.text()


def _scope(plan: Plan) -> Iterator[str]:
    if not plan.selection.refresh:
        yield wording.NOT_REFRESHED
    if plan.selection.partial:
        yield fit(wording.selected(plan.selection), _MOST_SELECTED)


def _fold_all(out: _Page, plan: Plan, steps: Sequence[Block]) -> None:
    """Everything that is there to be looked up."""
    out.fold(f"Moved: {counted(len(plan.moves), 'record')}", _moves(plan))
    drifted = [block for block in steps if block.drift]
    out.fold("Changed outside, since the last apply", map(_drift_text, drifted))
    for heading, same in _by_heading(steps):
        count = counted(sum(len(block.steps) for block in same), "sandbox", "sandboxes")
        out.fold(f"{heading}: {count}", map(_block_text, same))
    rollouts = counted(len(plan.rollouts), "group")
    out.fold(f"Rolled out in waves: {rollouts}", (_rollout(waves, plan) for waves in plan.rollouts))
    out.fold("Expiring within a day", _expiring(plan))


def _by_heading(steps: Sequence[Block]) -> Iterator[tuple[str, list[Block]]]:
    groups: dict[str, list[Block]] = {heading: [] for heading in (*_HEADINGS.values(), _LET_GO)}
    for block in steps:
        heading = _LET_GO if block.step.reason is Reason.LET_GO else _HEADINGS.get(block.step.action)
        if heading:
            groups[heading].append(block)
    yield from groups.items()


def code(text: str) -> str:
    """The text as inline code, whatever it holds."""
    safe = harmless(text)
    fence = "`" * (_longest_run(safe) + 1)
    room = " " if safe.startswith("`") or safe.endswith("`") else ""
    return f"{fence}{room}{safe}{room}{fence}"


class _Page:
    """Parts of the comment and how much of the limit they took."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def fits(self, part: str, more: int = 0) -> bool:
        return self._size + len(part) + 1 + more <= LIMIT - _RESERVED

    def add(self, part: str) -> None:
        self._parts.append(part)
        self._size += len(part) + 1

    def each(self, lines: Iterator[str], what: str, *, quote: str = "", most: int | None = None) -> None:
        left = shown = 0
        for line in lines:
            if left or shown == most or not self.fits(line):
                left += 1
            else:
                self.add(line)
                shown += 1
        if left:
            self.add(f"{quote}- … and {left} {what}: see `reconciler plan`")

    def fold(self, title: str, texts: Iterable[str]) -> None:
        """The texts under a title that unfolds; nothing when there are none."""
        same = list(texts)
        if not same:
            return
        head, tail = f"\n<details><summary>{_escape(title)}</summary>\n", "\n</details>"
        shown: list[str] = []
        size = len(head) + len(tail) + 200
        fence = 3
        for text in same:
            longer = max(fence, _longest_run(text) + 1)
            if not self.fits("", size + len(text) + 1 + 2 * longer):
                break
            shown.append(text)
            size, fence = size + len(text) + 1, longer
        left = len(same) - len(shown)
        if not shown:
            self.add(f"\n{_escape(title)}: see `reconciler plan`")
            return
        if left:
            shown.append(f"… and {counted(left, 'more block')}: see `reconciler plan`")
        body, mark = "\n".join(shown), "`" * fence
        self.add(f"{head}\n{mark}diff\n{body}\n{mark}{tail}")

    def text(self) -> str:
        return "\n".join(self._parts) + "\n"


def _loss(block: Block) -> str:
    step = block.step
    again = "" if step.action is Action.DESTROY else f" ({MEANING[step.action].split(':')[0]})"
    cost = f", cost: {_escape(harmless(step.cost))}" if step.cost else ""
    more = "".join(f"; {_escape(text)}" for text in remarks(block) if step.rungs or step.needed_by)
    why = _escape(reason_text(block))
    return f"- **`{step.symbol}`** {code(fit(block.title, _WIDTH))}{again}: {why}{more}{cost}"


def _remark(diagnostic: Diagnostic) -> str:
    return f"{_MARKER[diagnostic.severity]} {_told(diagnostic)}"


def _told(diagnostic: Diagnostic) -> str:
    place = f" ({code(diagnostic.position.short)})" if diagnostic.position else ""
    fix = f". {_escape(harmless(diagnostic.fix))}" if diagnostic.fix else ""
    return f"{_escape(harmless(diagnostic.summary))}{place}{fix}"


def _refusal(diagnostic: Diagnostic) -> str:
    related = "".join(
        f"; {_escape(harmless(text))}: {code(place.short)}" for text, place in diagnostic.related
    )
    return _told(diagnostic) + related


def _block_text(block: Block) -> str:
    step = block.step
    lines = [f"{step.symbol} {fit(block.title, _WIDTH)}  [{harmless(step.backend)}]  {reason_text(block)}"]
    lines += rows_text(block.rows, _WIDTH, PLAIN)
    if block.drift:
        lines.append(f"{FIELD}puts back {counted(len(block.drift), 'field')} changed outside")
    if step.unchanged and step.action is not Action.CREATE:
        lines.append(f"{FIELD}{counted(step.unchanged, 'unchanged field')} hidden")
    lines += [FIELD + text for text in remarks(block)]
    if step.cost:
        lines.append(f"{FIELD}cost: {harmless(step.cost)}")
    return "\n".join(lines)


def _drift_text(block: Block) -> str:
    rows = rows_text(block.drift, _WIDTH, PLAIN, join=" live, declared ")
    return "\n".join([f"  {fit(block.title, _WIDTH)}", *rows])


def _moves(plan: Plan) -> Iterator[str]:
    for row in wording.moves(plan):
        yield f"  {row.source} → {row.target}" + (f"  {row.place}" if row.place else "")


def _rollout(waves: Waves, plan: Plan) -> str:
    lines = [f"  {wording.rollout_title(waves, plan)}"]
    lines += [f"    {row.label}  {fit_middle(row.names, _WIDTH)}" for row in wording.wave_rows(waves, plan)]
    end = wording.rollout_end(waves)
    return "\n".join([*lines, f"    {end}"] if end else lines)


def _expiring(plan: Plan) -> Iterator[str]:
    rows, more = wording.expiring(plan)
    yield from (f"  {fit_middle(name, _WIDTH)}  {when}" for name, when in rows)
    if more:
        yield f"  … and {more} more"


def _escape(text: str) -> str:
    """Text that Markdown, HTML and mentions leave alone."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", escaped.replace("&#64;", "\x00")).replace("\x00", "&#64;")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
