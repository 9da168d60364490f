"""What a backend can do, said as data, so that planner, validation and docs read the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Support(StrEnum):
    """ENFORCED: done. NOTED: left out, harmless there, said once. REFUSED: leaving it out would weaken security or
    correctness, so it is an error unless the sandbox says `unsupported: warn`."""

    ENFORCED = "enforced"
    NOTED = "noted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """`fields` maps canonical paths or prefixes ("network.mode=isolated" beats "network.mode" beats "network") to
    support; an unlisted field is `default`. `updatable` are the prefixes that change in place. `probes` are the
    readiness kinds that work. `owns` is False for a backend that cannot label its objects (the seed's contract
    alone): ownership then rests on the recorded id.
    """

    fields: Mapping[str, Support] = field(default_factory=dict)
    default: Support = Support.REFUSED
    updatable: tuple[str, ...] = ()
    probes: frozenset[str] = frozenset({"http", "tcp", "none"})
    owns: bool = True
    relabels: bool = True
    unlisted: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)
    logs: bool = False
    exec: bool = False
    events: bool = False
    create_cost: str = ""  # for people: "~1s"
    max_in_flight: int = 16

    def support(self, path: str, value: object = None) -> Support:
        """The most specific entry for this field, with its value if the value matters."""
        exact = f"{path}={_word(value)}"
        if exact in self.fields:
            return self.fields[exact]
        while path:
            if path in self.fields:
                return self.fields[path]
            path = path.rpartition(".")[0]
        return self.default

    def updates_in_place(self, path: str) -> bool:
        return any(path == prefix or path.startswith(prefix + ".") for prefix in self.updatable)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
