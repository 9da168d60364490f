"""How often one sandbox may be put back, by the book: `Damping` as its text says it, kept apart from the code that does it."""

from __future__ import annotations

from msgspec import Struct, field

from reconciler.core.damping import Damping

_LEAST = 0.8  # of a pause: chance takes up to a fifth of it


class Fair(Struct):
    """One sandbox. Times in seconds."""

    damping: Damping
    count: int = 0  # corrections since it was last forgiven
    ends: list[float] = field(default_factory=list)
    gave_up: bool = False
    may_give_up: bool = False
    well_since: float | None = None
    _sure: list[float] = field(default_factory=list)
    _all: list[float] = field(default_factory=list)

    def objection(self, now: float) -> str:
        """Why it may not be put back now, "" when it may."""
        if self.gave_up:
            return f"it was put back {self.count} times, and is given up"
        if not self.count:
            return ""
        pause = min(self.damping.longest, self.damping.pause * self.damping.factor ** (self.count - 1))
        since = now - self.ends[-1]
        early = since < _LEAST * pause - 1e-6
        return f"{since:.2f}s after correction {self.count}, and the pause is {pause:g}s" if early else ""

    def tried(self, now: float, *, sure: bool, perhaps: bool) -> None:
        """It counts towards giving up when it is `sure` that it worked, and may count when it did `perhaps`."""
        self.count += 1
        self.ends.append(now)
        if perhaps:
            self._all.append(now)
        self.well_since = None
        if sure:
            self._sure.append(now)
        self.gave_up = self.gave_up or self._is_too_often(self._sure, now)
        self.may_give_up = self.may_give_up or self._is_too_often(self._all, now)

    def _is_too_often(self, ends: list[float], now: float) -> bool:
        return sum(end > now - self.damping.window for end in ends) >= self.damping.give_up

    def seen(self, well: bool, now: float, *, sure: bool) -> None:
        """`sure`: nothing but the listing says whether it is well."""
        if not well:
            self.well_since = None
        elif self.well_since is None:
            self.well_since = now
        elif now - self.well_since >= self.damping.well_after:
            if sure:
                self.forgive()
            else:
                self.may_be_forgiven()

    def is_calm(self, now: float) -> bool:
        """Whether no pause holds it up."""
        return not self.ends or now - self.ends[-1] > self.damping.longest

    def may_be_forgiven(self) -> None:
        """Nobody is held to it that it was, or that it was not."""
        self.count, self.gave_up = 0, False
        self.ends.clear()
        self._sure.clear()

    def forgive(self) -> None:
        self.may_be_forgiven()
        self.may_give_up = False
        self._all.clear()
