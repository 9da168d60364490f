"""When a backend object itself was at work on which sandbox, so that what it did is not taken for somebody else's deed."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator

from msgspec import Struct

ENDING = ("destroy", "restart")  # the verbs that end a sandbox
_REMEMBERED = 2048  # deeds; an engine's own memory is shorter


class Deed(Struct, kw_only=True):
    """One call of a verb. `failed` when it raised."""

    sandbox_id: str
    verb: str
    began: float
    ended: float = float("inf")
    failed: bool = False


class OwnDeeds:
    """Of one object alone: another process's are not in it. Times are seconds since the epoch: an engine notes what a verb
    did before the verb comes back."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._deeds: deque[Deed] = deque(maxlen=_REMEMBERED)

    @contextlib.contextmanager
    def doing(self, sandbox_id: str, verb: str) -> Iterator[None]:
        deed = Deed(sandbox_id=sandbox_id, verb=verb, began=self._now())
        self._deeds.append(deed)
        try:
            yield
        except BaseException:
            deed.failed = True
            raise
        finally:
            deed.ended = self._now()

    def covers(self, sandbox_id: str, at: float, verbs: Collection[str] = ()) -> bool:
        """Whether it was at work on that sandbox at that time, with one of these verbs, or with any."""
        return any(
            deed.began <= at <= deed.ended and (not verbs or deed.verb in verbs)
            for deed in self._of(sandbox_id)
        )

    def last(self, sandbox_id: str) -> Deed | None:
        """What it came to last, as far as it remembers."""
        return next(reversed(self._of(sandbox_id)), None)

    def _of(self, sandbox_id: str) -> list[Deed]:
        return [deed for deed in tuple(self._deeds) if deed.sandbox_id == sandbox_id]
