"""What a backend can do, said as data, so that planner, validation and docs read the same table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct, field


class Support(StrEnum):
    """ENFORCED: done. NOTED: left out, harmless there, said once. REFUSED: leaving it out would weaken security or
    correctness, so it is an error unless the sandbox says `unsupported: warn`."""

    ENFORCED = "enforced"
    NOTED = "noted"
    REFUSED = "refused"


class Capabilities(Struct, frozen=True, kw_only=True):
    """`fields` maps canonical paths or prefixes ("network.mode=isolated" beats "network.mode" beats "network") to
    support, where `*` stands for what names one of many ("mounts.*.type=volume"); an unlisted field is `default`. `why`
    says for people, by the same keys, why something is not enforced. `updatable` are the prefixes that change in place.
    `probes` are the readiness kinds that work. `owns` is False for a backend that cannot label its objects (the seed's
    contract alone): ownership then rests on the recorded id. `exposes_environment`: whoever may inspect a sandbox reads
    its environment. `seals_isolated`: with `network: isolated` nothing gets in either, so ports and probes through the
    network make no sense. `restarts`: what ended, or does not answer, can be stopped and started with everything it holds.
    `made_elsewhere`: sandboxes are there whatever we do; they are recorded and forgotten, never made or destroyed.
    `lingers`: what was destroyed may live on for a while though no look shows it, and a creation under its id would find it.
    """

    fields: Mapping[str, Support] = field(default_factory=dict)
    default: Support = Support.REFUSED
    updatable: tuple[str, ...] = ()
    probes: frozenset[str] = frozenset({"http", "tcp", "none"})
    owns: bool = True
    relabels: bool = True
    unlisted: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)
    exposes_environment: bool = False
    seals_isolated: bool = False
    restarts: bool = False
    made_elsewhere: bool = False
    lingers: bool = False
    logs: bool = False
    exec: bool = False
    events: bool = False
    create_cost: str = ""  # for people: "~1s"
    max_in_flight: int = 16

    def support(self, path: str, value: object = None) -> Support:
        """The most specific entry for this field, with its value if the value matters."""
        return next((self.fields[key] for key in _keys(path, value) if key in self.fields), self.default)

    def reason(self, path: str, value: object = None) -> str:
        """Why this field is not enforced, "" when there is nothing to say."""
        return next((self.why[key] for key in _keys(path, value) if key in self.why), "")

    def asks_value(self, path: str) -> bool:
        """Whether support of this field may depend on its value."""
        begins = tuple(f"{name}=" for name in _names(path))
        return any(key.startswith(begins) for table in (self.fields, self.why) for key in table)

    def updates_in_place(self, path: str) -> bool:
        return any(path == prefix or path.startswith(prefix + ".") for prefix in self.updatable)


def _keys(path: str, value: object) -> Iterator[str]:
    """What a table may call this field, from the most specific to the least."""
    names = _names(path)
    for name in names:
        yield f"{name}={_word(value)}"
    yield from names
    while path := path.rpartition(".")[0]:
        yield path


def _names(path: str) -> tuple[str, str]:
    """A field's own, and that of all of its kind: `mounts./data.size`, `mounts.*.size`."""
    head, _, rest = path.partition(".")
    return path, f"{head}.*.{rest.rpartition('.')[2]}" if "." in rest else path


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
