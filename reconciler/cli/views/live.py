"""The live view of an apply: one line per active sandbox with its state and time, a bar, failures at once above.

`frame` is the picture as plain data and decides nothing; only `LiveProgress` draws, and only it imports rich.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from msgspec import Struct, field

from reconciler.cli.views.plain import DOING, result_lines
from reconciler.cli.views.style import Style, cells, fit, fit_middle, harmless, pad, wrapped
from reconciler.cli.views.values import duration
from reconciler.model.desired import address_order
from reconciler.model.event import (
    Activity,
    ApplyEnded,
    Event,
    Planned,
    Remark,
    StepEnded,
    StepProgress,
    StepStarted,
)
from reconciler.model.outcome import StepStatus

if TYPE_CHECKING:
    from types import TracebackType

    from rich.text import Text

_PER_SECOND = 8
_BAR = 30
_SPARE_LINES = 4  # the bar, the "more" line, and room for the prompt


class Active(Struct, kw_only=True):
    """A step under way: what is being done and how far that is. `began` is the time of the clock that draws."""

    address: str
    doing: str
    began: float
    note: str = ""


class Board(Struct, kw_only=True):
    """What the picture is made of; changed by events only."""

    total: int = 0
    done: int = 0
    failed: int = 0
    other: int = 0  # skipped, stale, interrupted, not started
    began: float = 0.0
    notice: str = ""  # what is to be known until the end: that the run is stopping
    active: dict[str, Active] = field(default_factory=dict)

    def take(self, event: Event, now: float) -> None:
        match event:
            case Planned():
                self.total = len(event.plan.steps)
            case StepStarted():
                self.began = self.began or now
                self.active[event.key] = Active(address=event.address, doing=DOING[event.action], began=now)
            case StepProgress():
                self.active[event.key] = Active(
                    address=event.address,
                    doing=str(event.activity),
                    began=now - event.elapsed,
                    note=event.note,
                )
            case StepEnded():
                self.active.pop(event.key, None)
                self._count(event.result.status)
            case Remark() | ApplyEnded():
                pass

    def _count(self, status: StepStatus) -> None:
        if status is StepStatus.DONE:
            self.done += 1
        elif status is StepStatus.FAILED:
            self.failed += 1
        else:
            self.other += 1


def frame(board: Board, *, now: float, width: int, height: int) -> list[str]:
    """Lines for a terminal of this size: the active sandboxes, longest under way first, then the bar, then the
    notice."""
    below = wrapped(board.notice, width) if board.notice else []
    active = sorted(board.active.values(), key=lambda step: (round(step.began), address_order(step.address)))
    room = max(1, height - _SPARE_LINES - len(below))
    shown = active if len(active) <= room else active[: room - 1]
    column = min(max((cells(harmless(step.address)) for step in shown), default=0), max(12, width // 3))
    lines = [_active_line(step, column, now, width) for step in shown]
    if len(active) > len(shown):
        lines.append(fit(f"  … and {len(active) - len(shown)} more", width))
    return [*lines, _bar(board, now, width), *below]


def _active_line(step: Active, column: int, now: float, width: int) -> str:
    name = pad(fit_middle(harmless(step.address), column), column)
    elapsed = duration(now - step.began).rjust(6)
    head = f"  {name}  {elapsed}  "
    return head + _doing(step, width - cells(head))


def _doing(step: Active, width: int) -> str:
    """Where there is little room, how far it is says more than what it is; the numbers stand at the end."""
    note = harmless(step.note)
    whole = f"{step.doing}: {note}" if note else step.doing
    if not note or step.doing == Activity.RETRYING or cells(whole) <= width:
        return fit(whole, width)
    return fit_middle(note, width)


def _bar(board: Board, now: float, width: int) -> str:
    ended = board.done + board.failed + board.other
    size = max(6, min(_BAR, width - 34))
    filled = size * ended // board.total if board.total else size
    parts = [f"{ended}/{board.total}"]
    parts += [f"{board.failed} failed"] if board.failed else []
    parts += [f"{board.other} left out"] if board.other else []
    return fit(
        f"[{'█' * filled}{'░' * (size - filled)}] {', '.join(parts)}  {duration(now - board.began)}", width
    )


class LiveProgress:
    """Draws on `stream` between `__enter__` and `__exit__`. Events come from one thread, the drawing happens on
    another, and a lock that is held for microseconds keeps them apart."""

    def __init__(self, stream: TextIO, style: Style, *, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        self._style = style
        self._clock = clock
        self._lock = threading.Lock()
        self._board = Board()
        self._console = Console(
            file=stream, highlight=False, no_color=not style.colour, markup=False, emoji=False
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.take(event, self._clock())
        if isinstance(event, StepStarted) and not self._live.is_started:
            self._live.start()
        if isinstance(event, StepEnded) and event.result.status is not StepStatus.DONE:
            self.say(result_lines(event.result, self._style))
        if isinstance(event, ApplyEnded):
            self._live.stop()

    def notice(self, text: str) -> None:
        """Show this under the bar from now on. Safe in a signal handler: it only leaves a note for the next frame."""
        self._board.notice = text

    def say(self, lines: Sequence[str]) -> None:
        """Print lines above the picture, where they stay."""
        from rich.text import Text

        for line in lines:
            self._console.print(Text.from_ansi(line))

    def _picture(self) -> Text:
        from rich.text import Text

        size = self._console.size
        with self._lock:
            lines = frame(self._board, now=self._clock(), width=size.width, height=size.height)
        return Text("\n".join(lines), no_wrap=True, overflow="crop")
