"""A plan for a pull-request comment: what is destroyed is always visible, the rest folds away, and it all fits.

Values go into fences longer than any run of backticks in them, so that none of them is ever read as markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from reconciler.cli.views.grouping import Block, blocks
from reconciler.cli.views.human import MEANING, reason_text, rows_text, summary
from reconciler.cli.views.style import PLAIN, fit, harmless
from reconciler.cli.views.values import counted
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.plan import Action, Plan

LIMIT = 60_000  # comments are cut by the forges somewhat above this
_RESERVED = 2_000  # for the titles of parts that had to be cut
_WIDTH = 120
_MARKER = {Severity.ERROR: "🛑", Severity.WARNING: "⚠️", Severity.NOTE: "🛈"}
_HEADINGS = (
    (Action.REPLACE, "Replaced"),
    (Action.REPAIR, "Repaired"),
    (Action.UPDATE, "Changed in place"),
    (Action.CREATE, "Created"),
    (Action.ADOPT, "Adopted"),
    (Action.FORGET, "Forgotten"),
)


def plan_markdown(plan: Plan) -> str:
    """The comment, under 60,000 characters. Its first line is a mark by which a bot finds it again."""
    out = _Page()
    out.add(f"<!-- reconciler plan {re.sub('[^A-Za-z0-9_.-]', '-', plan.stack)} -->")
    out.add(f"### Plan for stack {code(plan.stack)}\n\n**{_escape(summary(plan))}**")
    steps = blocks(plan.steps)
    losing = [block for block in steps if block.step.destroys]
    if losing:
        out.add("\n#### What is taken down")
        out.each((_loss(block) for block in losing), "more of these")
    if plan.diagnostics:
        out.add("\n#### Remarks")
        out.each((_remark(diagnostic) for diagnostic in plan.diagnostics), "more remarks")
    drifted = [block for block in steps if block.drift]
    if drifted:
        out.fold("Changed outside, since the last apply", drifted, _drift_text)
    for action, heading in _HEADINGS:
        same = [block for block in steps if block.step.action is action]
        if same:
            count = sum(len(block.steps) for block in same)
            out.fold(f"{heading}: {counted(count, 'sandbox', 'sandboxes')}", same, _block_text)
    if plan.unchanged:
        out.add(f"\n{counted(len(plan.unchanged), 'other sandbox', 'other sandboxes')} unchanged.")
    return out.text()


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

    def each(self, lines: Iterator[str], what: str) -> None:
        left = 0
        for line in lines:
            if left or not self.fits(line):
                left += 1
            else:
                self.add(line)
        if left:
            self.add(f"- … and {left} {what}: see `reconciler plan`")

    def fold(self, title: str, same: list[Block], render: Callable[[Block], Iterator[str]]) -> None:
        head, tail = f"\n<details><summary>{_escape(title)}</summary>\n", "\n</details>"
        shown: list[str] = []
        size = len(head) + len(tail) + 200
        fence = 3
        for block in same:
            text = "\n".join(render(block))
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
    why = _escape(reason_text(block))
    return f"- **`{step.symbol}`** {code(fit(block.title, _WIDTH))}{again}: {why}{cost}"


def _remark(diagnostic: Diagnostic) -> str:
    place = f" ({code(diagnostic.position.short)})" if diagnostic.position else ""
    fix = f". {_escape(harmless(diagnostic.fix))}" if diagnostic.fix else ""
    return f"- {_MARKER[diagnostic.severity]} {_escape(harmless(diagnostic.summary))}{place}{fix}"


def _block_text(block: Block) -> Iterator[str]:
    step = block.step
    yield f"{step.symbol} {fit(block.title, _WIDTH)}  [{harmless(step.backend)}]  {reason_text(block)}"
    yield from rows_text(block.rows, _WIDTH, PLAIN)
    if block.drift:
        yield f"      puts back {counted(len(block.drift), 'field')} changed outside"
    if step.unchanged and step.action is not Action.CREATE:
        yield f"      {counted(step.unchanged, 'unchanged field')} hidden"
    if step.cost:
        yield f"      cost: {harmless(step.cost)}"


def _drift_text(block: Block) -> Iterator[str]:
    yield f"  {fit(block.title, _WIDTH)}"
    yield from rows_text(block.drift, _WIDTH, PLAIN, join=" live, declared ")


def _escape(text: str) -> str:
    """Text that Markdown, HTML and mentions leave alone."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", escaped.replace("&#64;", "\x00")).replace("\x00", "&#64;")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
