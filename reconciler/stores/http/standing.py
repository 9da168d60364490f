"""What the server has, as far as the holder of one lock knows, and how it gets one state further.

The protocol has no journal, so every append is a whole state with a serial of its own. Three things make that safe:

* Before each write the server is asked what it has. Anything but what we wrote last means that somebody wrote without
  the lock, or that something in between gives old answers, and nothing more is written.
* A write whose answer got lost is looked for: the same serial and content means that it was carried out. It is sent
  again as it was only when the server still has what was there before; GitLab would refuse the same serial twice.
* A refused write asks who holds the lock: only if we do, the serial was the reason, and the next one is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.errors import LeaseLost, StateCorrupt, StoreError
from reconciler.model.state import State
from reconciler.stores.base import LockInfo
from reconciler.stores.http import document
from reconciler.stores.http.addresses import Addresses
from reconciler.stores.http.answers import DONE, TAKEN, refused, web_page
from reconciler.stores.http.lock import HttpLock
from reconciler.stores.http.wire import Answer, NoAnswer, Wire
from reconciler.stores.sealing import Sealer

_TRIES = 4
_USED = frozenset(
    {*TAKEN, 400, 422}
)  # what servers say to a serial that was there before, or to a wrong lock
_LATER = "run it again: the server has what was meant, and what is live is found by its labels"


class Place(Struct, frozen=True, kw_only=True):
    """Where one stack's state is, and what seals it: `name` for people."""

    wire: Wire
    addresses: Addresses
    stack: str
    name: str
    sealer: Sealer

    def fetch(self) -> bytes | None:
        """The bytes that are there, None when there is nothing yet. Raises StoreError."""
        doing, url = "read the state", self.addresses.state
        answer = self.wire.ask("GET", url)
        if answer.status in (204, 404):
            return None
        if answer.status != 200:
            raise refused(answer, doing=doing, url=url, wire=self.wire)
        if not answer.body:
            return None
        if answer.page:
            raise web_page(doing=doing, url=url)
        return answer.body

    def encode(self, state: State) -> bytes:
        """Raises StoreError for what cannot be stored, and where the key cannot be had."""
        return document.encode(state, self.sealer)

    def decode(self, data: bytes) -> State:
        """Raises StateCorrupt, StateTooNew, and StoreError where no key fits."""
        state = document.decode(data, self.sealer, place=self.name, hint=self.mend)
        if state.stack != self.stack:
            raise StateCorrupt(
                f"{self.name} holds the state of stack {state.stack!r}, not of {self.stack!r}",
                hint="give each stack a `url` of its own",
            )
        return state

    @property
    def mend(self) -> str:
        return "look at the versions that the server keeps, or give this stack a `url` where nothing else is kept"


class Standing(Struct, kw_only=True):
    """What one holder of the lock has seen and written. `base` is the serial that a state has to have at least in order
    to be newer; appends go further than that."""

    place: Place
    lock: HttpLock
    mine: LockInfo
    head: State | None = None
    base: int = 0
    _seen: bool = False
    _digest: bytes | None = None  # of the bytes that were found to be `head`
    _unsure: list[State] = field(default_factory=list)  # sent, and nobody knows whether it arrived

    def look(self) -> None:
        """Ask the server what it has. Raises LeaseLost or StoreError when that is not ours."""
        data = self.place.fetch()
        digest = None if data is None else sha256(data).digest()
        if self._seen and digest == self._digest:
            return
        state = None if data is None else self.place.decode(data)
        if not self._seen:
            self._seen, self.base = True, 0 if state is None else state.serial
        elif state != self.head and (state is None or state not in self._unsure):
            raise self._changed(state)
        self.head, self._digest = state, digest

    def _changed(self, state: State | None) -> StoreError:
        name, last = self.place.name, 0 if self.head is None else self.head.serial
        if state is None:
            return StoreError(
                f"the state {name} was removed while this run held its lock, so nothing more is written",
                hint="run it again: what is live is found by its labels",
            )
        if self.head is not None and state.lineage == self.head.lineage and state.serial < last:
            return StoreError(
                f"{name} answers with serial {state.serial} after it took serial {last}: it lost that write, or "
                "something in between gives old answers",
                hint="look for a cache before the server, then run it again",
            )
        return LeaseLost(
            f"{name} is at serial {state.serial}, and this run wrote {last} last: somebody else wrote without this "
            "lock, so nothing more is written",
            hint="run it again once nobody else writes there; the server has to refuse writes under another lock's id",
        )

    def put(self, make: Callable[[State | None], State]) -> State:
        """Write what `make` makes of what is there, and return only when the server has it. The state as written.
        Raises LeaseLost when the lock is not ours any more, StoreError when it cannot be written, or nobody can tell."""
        self.look()
        sent: State | None = None
        used = 0  # the highest serial that was refused
        answer: Answer | NoAnswer | None = None
        for tried in range(_TRIES):
            if tried:
                self._pause(answer, tried)
            sent = sent or self._next(make(self.head), used)
            data = self.place.encode(sent)
            answer = self._send(sent, data)
            if answer is None:
                self._settle(sent, sha256(data).digest())
                return sent
            before = self.head
            self._look_again(answer)
            if self.head == sent:
                self._unsure.clear()
                return sent
            if isinstance(answer, Answer) and answer.status in _USED:
                self.lock.demand(self.mine)
                used, sent = max(used, sent.serial), None
            elif isinstance(answer, Answer) and not answer.passing and answer.status not in DONE:
                break
            elif self.head is not before:  # an earlier write of ours arrived late
                sent = None
        assert answer is not None
        raise self._failed(answer)

    def _look_again(self, answer: Answer | NoAnswer) -> None:
        """After a write of which nobody knows what came of it."""
        try:
            self.look()
        except NoAnswer as missing:
            raise self._failed(answer if isinstance(answer, NoAnswer) else missing) from None

    def _next(self, state: State, used: int) -> State:
        serial = max(state.serial, used, 0 if self.head is None else self.head.serial) + 1
        return replace(state, serial=serial, updated_at=self.place.wire.pace.now())

    def _send(self, state: State, data: bytes) -> Answer | NoAnswer | None:
        """None when the server says that it has it now."""
        addresses = self.place.addresses
        if state not in self._unsure:
            self._unsure.append(state)
        url = addresses.written_under(self.mine.id)
        try:
            answer = self.place.wire.ask(addresses.update_method, url, data, tries=1)
        except NoAnswer as missing:
            return missing
        return None if answer.status in DONE and not answer.page else answer

    def _settle(self, state: State, digest: bytes) -> None:
        self.head, self._digest = state, digest
        self._unsure.clear()

    def _pause(self, answer: Answer | NoAnswer | None, tried: int) -> None:
        pace = self.place.wire.pace
        asked = answer.retry_after(pace.now()) if isinstance(answer, Answer) else None
        if asked is not None and asked > self.place.wire.timeout:
            assert isinstance(answer, Answer)
            raise self._failed(answer)
        if not (isinstance(answer, Answer) and answer.status in _USED):
            pace.sleep(pace.first * 2 ** (tried - 1) if asked is None else asked)

    def _failed(self, answer: Answer | NoAnswer) -> StoreError:
        doing, url = "write the state", self.place.addresses.state
        if isinstance(answer, NoAnswer):
            return StoreError(f"cannot {doing}: {answer.message}", hint=f"{answer.hint}; then {_LATER}")
        if answer.status in DONE:
            return web_page(doing=doing, url=url)
        if answer.status in _USED:
            return StoreError(
                f"{self.place.name} refuses each write under this run's lock (HTTP {answer.status})",
                hint="look at the server's log: which serials, sizes or documents does it take?",
            )
        error = refused(answer, doing=doing, url=url, wire=self.place.wire)
        error.hint = f"{error.hint}; then {_LATER}"
        return error
