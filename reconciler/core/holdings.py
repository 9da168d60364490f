"""What is there, sorted by whose it is: ours by address, and ids that are taken by anything else. Pure.

An object is ours by its labels alone, or, where it has none, because it is recorded or named by an import. What was let go
is nobody's, whatever its labels say. Where labels and record name different addresses, the record is right: labels may be
fixed for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from reconciler.core.identity import is_ours, sandbox_id
from reconciler.core.imports import Key, is_the_recorded
from reconciler.core.moves import renamed
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, DesiredSandbox
from reconciler.model.lifecycle import Move
from reconciler.model.observed import ObservedSandbox
from reconciler.model.state import SandboxRecord


class Holdings(Struct, kw_only=True):
    """`live` are ours by address, `taken` everybody else's by backend and id. `unlabelled` are records of objects that are
    ours without labels of ours; `importing` what is to be taken over, by key; `elsewhere` what is declared, was made by others, and is not recorded yet."""

    stack: str
    lineage: str
    records: Mapping[Address, SandboxRecord]
    unlabelled: Mapping[Key, SandboxRecord]
    importing: Mapping[Key, Address]
    elsewhere: Mapping[Key, Address] = field(default_factory=dict)
    released: frozenset[Key] = frozenset()
    moved: tuple[Move, ...] = ()
    declared: frozenset[Address] = frozenset()
    live: dict[Address, list[ObservedSandbox]] = field(default_factory=lambda: defaultdict(list))
    taken: dict[Key, ObservedSandbox] = field(default_factory=dict)
    _by_key: dict[Key, Address] = field(default_factory=dict)

    def sort(self, sandboxes: Iterable[ObservedSandbox]) -> None:
        """Each object to where it belongs."""
        self._by_key = {(r.backend, r.sandbox_id): r.address for r in self.records.values()}
        for seen in sandboxes:
            address = self._address(seen)
            if address is None:
                self.taken[seen.backend, seen.info.sandbox_id] = seen
            else:
                self.live[address].append(seen)

    def _address(self, seen: ObservedSandbox) -> Address | None:
        """Which of our addresses it is; None when it is not ours."""
        key = (seen.backend, seen.info.sandbox_id)
        if key in self.importing:
            return self.importing[key]
        if key in self.elsewhere:
            return self.elsewhere[key]
        if key in self.released:
            return None
        if is_ours(seen, self.stack, self.lineage):
            assert seen.owner is not None
            return self._by_key.get(key) or self._renamed(seen.owner.address)
        record = self.unlabelled.get(key)
        if seen.owner is None and record is not None and is_the_recorded(record, seen):
            return record.address
        return None

    def _renamed(self, address: Address) -> Address:
        """By an entry of `moved`, unless its old address is declared anew."""
        return address if address in self.declared else renamed(address, self.moved)

    @property
    def known(self) -> frozenset[Address]:
        """The addresses that are recorded or there."""
        return frozenset({*self.records, *(address for address, seen in self.live.items() if seen)})

    @property
    def fleet(self) -> int:
        """How many sandboxes there are, or are known to have been."""
        return len(self.known)

    def is_import(self, seen: ObservedSandbox | None) -> bool:
        return seen is not None and (seen.backend, seen.info.sandbox_id) in self.importing

    def taken_on(self, backend: str) -> Iterable[str]:
        """The ids there that are not ours."""
        return (name for where, name in self.taken if where == backend)

    def free_generation(self, address: Address, backend: str, generation: int) -> int:
        """The first from this one on whose id nothing of ours has that is at another address, or was let go."""
        while self._elsewhere(address, (backend, sandbox_id(self.stack, address, generation))):
            generation += 1
        return generation

    def _elsewhere(self, address: Address, key: Key) -> bool:
        if key in self.released or self._by_key.get(key, address) != address:
            return True
        return any(
            (seen.backend, seen.info.sandbox_id) == key
            for other in self._renamed_from(address)
            for seen in self.live.get(other, ())
        )

    def _renamed_from(self, address: Address) -> Iterable[Address]:
        """Where objects labelled with this address may be counted now."""
        to = renamed(address, self.moved)
        return () if to == address else (to,)


def recorded_without_labels(
    records: Mapping[Address, SandboxRecord], capabilities: Mapping[str, Capabilities]
) -> Mapping[Key, SandboxRecord]:
    """Ours because we recorded it, and for no other reason: what lives on backends that cannot label, and what was
    imported."""
    plain = Capabilities()
    return {
        (record.backend, record.sandbox_id): record
        for record in records.values()
        if record.imported or not capabilities.get(record.backend, plain).owns
    }


def made_elsewhere(
    stack: str,
    wanted: Mapping[Address, DesiredSandbox],
    records: Mapping[Address, SandboxRecord],
    capabilities: Mapping[str, Capabilities],
) -> Mapping[Key, Address]:
    """What is declared on a backend whose sandboxes others make, and is not recorded: no listing shows it, so it is
    looked at by the name it will have."""
    plain = Capabilities()
    return {
        (sandbox.backend, sandbox_id(stack, address, 1)): address
        for address, sandbox in wanted.items()
        if address not in records and capabilities.get(sandbox.backend, plain).made_elsewhere
    }
