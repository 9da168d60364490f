"""The end of an apply: what was done, failed, skipped and not started, with errors and last log lines.

Sees results only; the exit code is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.cli.views.grouping import split, together
from reconciler.cli.views.plain import DONE
from reconciler.cli.views.style import GREEN, RED, YELLOW, Style, fit, harmless, wrapped
from reconciler.cli.views.table import Column, table
from reconciler.cli.views.values import MASK, counted, duration
from reconciler.cli.views.wording import tried
from reconciler.model.desired import address_order
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action

_CODES: Mapping[StepStatus, tuple[int, ...]] = {
    StepStatus.DONE: (GREEN,),
    StepStatus.FAILED: (RED,),
    StepStatus.STALE: (YELLOW,),
    StepStatus.SKIPPED: (YELLOW,),
    StepStatus.INTERRUPTED: (YELLOW,),
    StepStatus.NOT_STARTED: (YELLOW,),
}
_MOST_DONE_ROWS = 40  # a bigger fleet's successes are counted; what went wrong is always listed
_MOST_TRIED = 20


def report_text(
    results: Sequence[StepResult],
    *,
    seconds: float,
    interrupted: bool,
    width: int,
    style: Style,
    destroy: bool = False,
) -> str:
    """The final table, every failure in full, and the tally. `destroy`: it was asked for nothing else."""
    verb = "destroy" if destroy else "apply"
    lines = list(_table(results, width, style))
    lines += _tried(results, width, style)
    for alike in _alike(_of(results, StepStatus.FAILED)):
        lines += ["", *_failure(alike, width, style)]
    if lines:
        lines.append("")
    told = tally(results, seconds=seconds, interrupted=interrupted, verb=verb)
    lines += [style.bold(line) for line in wrapped(told, width)]
    unfinished = [r for r in results if r.status is not StepStatus.DONE]
    if unfinished:
        lines += wrapped(_next_step(unfinished, interrupted, verb), width)
    return "\n".join(lines) + "\n"


def tally(results: Sequence[StepResult], *, seconds: float, interrupted: bool, verb: str = "apply") -> str:
    """`Apply complete: 3 created, 1 changed in 4.2s.` or what is missing from it."""
    done = _of(results, StepStatus.DONE)
    counts = [f"{n} {verb}" for action, verb in DONE.items() if (n := sum(r.action == action for r in done))]
    rest = [
        f"{n} {status}"
        for status in StepStatus
        if status is not StepStatus.DONE and (n := len(_of(results, status)))
    ]
    how = "incomplete" if rest else "complete"
    head = "Interrupted" if interrupted else f"{verb.capitalize()} {how}"
    return f"{head}: {', '.join([*counts, *rest]) or 'nothing to do'} in {duration(seconds)}."


def outputs_text(outputs: Sequence[tuple[str, str]], *, style: Style) -> str:
    """Name and value of each output; sensitive ones arrive masked. Values are never cut: they are to be copied."""
    if not outputs:
        return ""
    column = max(len(name) for name, _ in outputs)
    lines = [style.bold("Outputs:")]
    lines += [f"  {name.ljust(column)}  {harmless(value)}" for name, value in sorted(outputs)]
    return "\n".join(lines) + "\n"


def masked(outputs: Mapping[str, tuple[str, bool]]) -> list[tuple[str, str]]:
    """(name, value) with the sensitive ones masked."""
    return [(name, MASK if sensitive else value) for name, (value, sensitive) in sorted(outputs.items())]


def _of(results: Sequence[StepResult], *statuses: StepStatus) -> list[StepResult]:
    return [result for result in results if result.status in statuses]


def _table(results: Sequence[StepResult], width: int, style: Style) -> Iterator[str]:
    done = _of(results, StepStatus.DONE)
    order = list(StepStatus)
    listed = [r for r in results if r.status is not StepStatus.DONE or len(done) <= _MOST_DONE_ROWS]
    listed.sort(key=lambda r: (order.index(r.status), address_order(r.address)))
    if not listed:
        return
    columns = [
        Column(title="ADDRESS", values=[r.address for r in listed], weight=9, least=16),
        Column(title="ACTION", values=[r.action for r in listed], weight=5),
        Column(
            title="RESULT",
            values=[str(r.status) for r in listed],
            weight=8,
            codes=[_CODES[r.status] for r in listed],
        ),
        Column(title="TOOK", values=[_took(r) for r in listed], weight=3),
        Column(title="URL", values=[_url(r) for r in listed], weight=4),
        Column(title="WHY", values=[_why(r) for r in listed], weight=2, least=16),
    ]
    yield from table(columns, width=width, style=style)
    if len(done) > _MOST_DONE_ROWS:
        yield style.dim(fit(f"… and {counted(len(done), 'sandbox', 'sandboxes')} done", width))


def _took(result: StepResult) -> str:
    return duration(result.seconds) if result.seconds else "-"


def _url(result: StepResult) -> str:
    gone = result.action in (Action.DESTROY, Action.FORGET)
    return (
        "" if gone or result.info is None or result.status is not StepStatus.DONE else result.info.sandbox_url
    )


def _why(result: StepResult) -> str:
    return "see below" if result.status is StepStatus.FAILED else result.error


def _alike(failed: Sequence[StepResult]) -> list[list[StepResult]]:
    """Replicas that failed in the same way are told once."""
    groups: dict[tuple[object, ...], list[StepResult]] = {}
    for result in failed:
        group, _ = split(result.address)
        key = (group, result.action, result.error, result.hint, result.log_tail, result.tried)
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def _tried(results: Sequence[StepResult], width: int, style: Style) -> Iterator[str]:
    """What each repair came to, replicas that went the same way in one line; a failure tells its own."""
    groups: dict[tuple[object, ...], list[StepResult]] = {}
    for result in results:
        if result.tried and result.status is not StepStatus.FAILED:
            group, key = split(result.address)
            groups.setdefault((group, bool(key), result.tried), []).append(result)
    told = list(groups.values())
    if told:
        yield ""
    for alike in told[:_MOST_TRIED]:
        text = tried([one.address for one in alike], alike[0].tried)
        first, *rest = wrapped(text, width)
        yield first
        yield from (line for more in rest for line in wrapped(more, width, indent="  "))
    if len(told) > _MOST_TRIED:
        left = sum(len(alike) for alike in told[_MOST_TRIED:])
        yield style.dim(fit(f"… and {counted(left, 'more repair')}", width))


def _failure(alike: Sequence[StepResult], width: int, style: Style) -> Iterator[str]:
    result = alike[0]
    head = f"{together([one.address for one in alike])}: {result.action} failed"
    yield style.paint(fit(head, width), RED)
    for text in (result.error, result.hint):
        if text:
            yield from wrapped(harmless(text), width, indent="  ")
    if result.tried:
        yield from wrapped(f"tried before: {harmless('; '.join(result.tried))}", width, indent="  ")
    if result.log_tail:
        yield "  last lines of its log:"
        yield from (fit(f"  | {harmless(line)}", width) for line in result.log_tail)


def _next_step(unfinished: Sequence[StepResult], interrupted: bool, verb: str) -> str:
    again = f"`reconciler {verb}` again"
    if interrupted:
        return f"What was done is recorded. Run {again} to go on from here."
    if any(result.status is StepStatus.FAILED for result in unfinished):
        return f"What was done is recorded. Fix what failed, then run {again}: it goes on from here."
    return "What was done is recorded. Run `reconciler plan` to see what is left."
