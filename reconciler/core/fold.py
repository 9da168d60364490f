"""State plus journal entries gives state: the one place where a `SandboxRecord` changes.

Every entry touches the record of its own address only, so `fold_record` holds all rules and the two others apply it.
Must never ask a clock, a backend or a file: replaying a journal gives the same state on every machine.

What the rules keep true:

* An intent to create, adopt or update, and one to destroy what others made in order to replace it, says which object
  the address means from now on. Any other intent to destroy, and
  every outcome, speaks about one object: when the record means another one by now, or there is no record, it is
  ignored, so leftovers of a replacement and late news of an earlier generation never touch the record.
* `spec_hash` is "" from the intent to update until it is known to have worked. Until then `spec` is what was meant,
  not what holds: whoever plans must compare with the live object again, and an empty hash equals no other hash.
* What others made and we took over stays marked as that for as long as the record means that very object. One that is
  destroyed to be replaced is recorded from the intent on, and its record stays until the intent to create: a run that
  dies in between must not leave an address that only an entry of `imports` speaks of.
* A record that is being destroyed hears nothing but the outcome of that, or a new intent.
* `healthy` remembers what an address was last ready with, from the moment it is changed until it is ready again.
* Folding a complete run a second time changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from reconciler.model.desired import Address, FlatSpec, fingerprint
from reconciler.model.outcome import Entry, Intent, Operation, Outcome
from reconciler.model.state import SandboxRecord, State, Status


def fold(state: State, entry: Entry) -> State:
    """The state after one entry; the given one when the entry does not concern it."""
    return fold_all(state, (entry,))


def fold_all(state: State, entries: Iterable[Entry]) -> State:
    """The state after all entries, in order; linear in records plus entries. The given one when none concerns it."""
    records = dict(state.sandboxes)
    released = dict(state.released)
    for entry in entries:
        if isinstance(entry, Intent):
            _note_release(released, entry)
        after = fold_record(records.get(entry.address), entry)
        if after is None:
            records.pop(entry.address, None)
        else:
            records[entry.address] = after
    if records == state.sandboxes and released == state.released:
        return state
    return replace(state, sandboxes=records, released=released)


def _note_release(released: dict[tuple[str, str], Address], intent: Intent) -> None:
    """What is let go is nobody's until it is taken over again, or destroyed under the same name."""
    key = (intent.backend, intent.sandbox_id)
    if intent.operation is Operation.RELEASE:
        released[key] = intent.address
    elif released:
        released.pop(key, None)


def fold_record(record: SandboxRecord | None, entry: Entry) -> SandboxRecord | None:
    """The record of `entry.address` after the entry; None when there is none (any more)."""
    if isinstance(entry, Intent):
        return _after_intent(record, entry)
    return _after_outcome(record, entry)


def _after_intent(record: SandboxRecord | None, intent: Intent) -> SandboxRecord | None:
    match intent.operation:
        case Operation.CREATE:
            last = None if record is None else _last_healthy(record)
            return replace(_meant(intent, status=Status.PENDING), healthy=last)
        case Operation.ADOPT:
            return _kept(record, _meant(intent, status=Status.CREATED))
        case Operation.UPDATE:
            return _kept(record, replace(_meant(intent, status=Status.CREATED), spec_hash=""))
        case Operation.DESTROY:
            if record is None or record.sandbox_id != intent.sandbox_id:
                return _meant(intent, status=Status.DESTROYING) if intent.imported else record
            return replace(
                record,
                status=Status.DESTROYING,
                error="",
                updated_at=intent.at,
                healthy=_last_healthy(record),
            )
        case Operation.SEE:
            if record is None or record.sandbox_id != intent.sandbox_id:
                return record
            return replace(record, spec=intent.spec, spec_hash=intent.spec_hash, updated_at=intent.at)
        case Operation.RELEASE:
            return None if record is None or record.sandbox_id == intent.sandbox_id else record
        case Operation.READY | Operation.FORGET:
            return record  # looking and forgetting change nothing until they are done
        case _:
            assert_never(intent.operation)


def _meant(intent: Intent, *, status: Status) -> SandboxRecord:
    return SandboxRecord(
        address=intent.address,
        sandbox_id=intent.sandbox_id,
        backend=intent.backend,
        generation=intent.generation,
        spec=intent.spec,
        spec_hash=intent.spec_hash,
        status=status,
        depends_on=intent.depends_on,
        created_at=intent.at,
        updated_at=intent.at,
        imported=intent.imported,
        protected=intent.protected,
        triggers=intent.triggers,
    )


def _last_healthy(record: SandboxRecord) -> FlatSpec | None:
    """What the address was last ready with. Also where that is what it is to be again: going back to it may be
    interrupted, and something else be tried after that."""
    return record.spec if record.status is Status.READY else record.healthy


def _kept(record: SandboxRecord | None, meant: SandboxRecord) -> SandboxRecord:
    """An object that lives on keeps its age and its connection details, as long as it is the same object."""
    if record is None or (record.sandbox_id, record.backend) != (meant.sandbox_id, meant.backend):
        return meant
    return replace(
        meant,
        healthy=_last_healthy(record),
        created_at=record.created_at,
        info=record.info,
        imported=meant.imported or record.imported,
        triggers={address: record.triggers.get(address) or now for address, now in meant.triggers.items()},
    )


def _after_outcome(record: SandboxRecord | None, outcome: Outcome) -> SandboxRecord | None:
    if record is None or record.sandbox_id != outcome.sandbox_id:
        return record
    ending = outcome.operation in (Operation.DESTROY, Operation.FORGET)
    if ending and outcome.ok:
        return None
    if record.status is Status.DESTROYING and not ending:
        return record
    status, spec_hash = _verdict(record, outcome)
    return SandboxRecord(  # spelled out: `replace` costs more than all the rest of a fold
        address=record.address,
        sandbox_id=record.sandbox_id,
        backend=record.backend,
        generation=record.generation,
        spec=record.spec,
        spec_hash=spec_hash,
        info=record.info if ending else outcome.info or record.info,
        status=status,
        depends_on=record.depends_on,
        created_at=record.created_at,
        updated_at=outcome.at,
        error=outcome.error,
        imported=record.imported,
        protected=record.protected,
        triggers=record.triggers,
        healthy=None if status is Status.READY else record.healthy,
    )


def _verdict(record: SandboxRecord, outcome: Outcome) -> tuple[Status, str]:
    """Status and fingerprint after news about the recorded object."""
    match outcome.operation:
        case Operation.CREATE:  # a failed create may have created it all the same
            return (Status.CREATED if outcome.ok else Status.PENDING), record.spec_hash
        case Operation.ADOPT:
            return Status.CREATED, record.spec_hash
        case Operation.UPDATE:
            return (Status.CREATED, fingerprint(record.spec)) if outcome.ok else (Status.TAINTED, "")
        case Operation.READY:
            return (Status.READY if outcome.ok else Status.TAINTED), record.spec_hash
        case Operation.DESTROY:  # a failed destroy may have taken half of it
            return Status.DESTROYING, record.spec_hash
        case Operation.FORGET | Operation.RELEASE | Operation.SEE:
            return record.status, record.spec_hash
        case _:
            assert_never(outcome.operation)
