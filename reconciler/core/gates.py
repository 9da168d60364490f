"""Gates between the waves of rollouts: which steps may begin, and what follows from the end of one. Pure bookkeeping.

A wave opens when every step of the one before has ended well. The first that does not stops its rollout: what has not begun
never does, in this wave neither.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from reconciler.model.plan import Waves


class _Gate(Struct):
    rollout: Waves
    wave: int = 0  # the open one, from 0
    left: int = 0  # steps of it that have not ended
    stopped: bool = False


class Gates:
    """The gates of all rollouts of a plan, by the keys of their steps."""

    def __init__(self, rollouts: Iterable[Waves]) -> None:
        self._gates: dict[str, tuple[_Gate, int]] = {}
        for rollout in rollouts:
            gate = _Gate(rollout=rollout, left=len(rollout.waves[0]) if rollout.waves else 0)
            for number, keys in enumerate(rollout.waves):
                self._gates |= dict.fromkeys(keys, (gate, number))

    def may_begin(self, key: str) -> bool:
        """Whether its wave is open, or it is in none."""
        entry = self._gates.get(key)
        return entry is None or (entry[1] <= entry[0].wave and not entry[0].stopped)

    def passed(self, key: str) -> tuple[str, ...]:
        """It ended well. The keys whose wave that opens."""
        entry = self._gates.get(key)
        if entry is None or entry[0].stopped or entry[1] != entry[0].wave:
            return ()
        gate = entry[0]
        gate.left -= 1
        if gate.left or gate.wave + 1 >= len(gate.rollout.waves):
            return ()
        gate.wave += 1
        opened = gate.rollout.waves[gate.wave]
        gate.left = len(opened)
        return opened

    def stopped_by(self, key: str) -> tuple[str, tuple[str, ...]]:
        """It did not end well. The group whose rollout that stops, and the keys that must not begin any more; empty when
        it is in no rollout, or in one that was stopped before."""
        entry = self._gates.get(key)
        if entry is None or entry[0].stopped:
            return "", ()
        gate = entry[0]
        gate.stopped = True
        rest = tuple(key for keys in gate.rollout.waves[gate.wave :] for key in keys)
        return gate.rollout.group, rest
