"""A third party's backend that raises, lies and prints, as its options say; and a text that no terminal should see."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from reconciler.backends.base import ExecResult, ProbeAnswer, SandboxBackend
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, Owner
from reconciler.model.observed import Astray, ObservedSandbox, Phase, SandboxInfo

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u061c\u200b\u3164\U000e0141\r\n"
STACK, LINEAGE = "demo", "l"


def _owner(**more: Any) -> Owner:
    made = Owner(stack=STACK, lineage=LINEAGE, address=Address("old"), generation=1, spec_hash="h")
    return replace(made, **more)


def _seen(info: Any = None, **more: Any) -> list[ObservedSandbox]:
    made = info if info is not None else SandboxInfo(sandbox_id="a", sandbox_url="http://a")
    return [ObservedSandbox(**{"info": made, "owner": _owner(), **more})]


def _info(**more: Any) -> SandboxInfo:
    return SandboxInfo(**{"sandbox_id": "a", "sandbox_url": "u", **more})


def _raise(error: BaseException) -> Any:
    raise error


def _recurse() -> Any:
    return _recurse()


def _mute() -> Any:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even that")

    raise Mute


RAISES: Mapping[str, Callable[[], Any]] = {
    "SystemExit with code 0": lambda: sys.exit(0),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "BaseException": lambda: _raise(BaseException(EVIL)),
    "GeneratorExit": lambda: _raise(GeneratorExit()),
    "a million characters": lambda: _raise(RuntimeError(EVIL * 40_000)),
    "an error that cannot say what it is": _mute,
    "a recursion without end": _recurse,
}
LIES: Mapping[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "a number": lambda: 5,
    "a text, which is taken apart like a list": lambda: "abc",
    "a list of anything": lambda: [object()],
    "no info": lambda: [ObservedSandbox(info=None, owner=_owner())],  # type: ignore[arg-type]
    "an id that is none": lambda: _seen(_info(sandbox_id=None)),
    "an empty id": lambda: _seen(_info(sandbox_id="")),
    "a URL that is a number": lambda: _seen(_info(sandbox_url=4)),
    "an age that is a word": lambda: _seen(_info(created_at="yesterday")),
    "an age that is no number": lambda: _seen(_info(created_at=float("nan"))),
    "an age without end": lambda: _seen(_info(created_at=float("inf"))),
    "ports in a list": lambda: _seen(_info(ports=["x"])),
    "a port out of range": lambda: _seen(_info(ports={"http": 10**30})),
    "a phase that is a word": lambda: _seen(phase="zombie"),
    "no detail": lambda: _seen(detail=None, phase=Phase.FAILED),
    "an owner that is a word": lambda: _seen(owner="me"),
    "a stack that is none": lambda: _seen(owner=_owner(stack=None)),
    "an empty address": lambda: _seen(owner=_owner(address="")),
    "an address that is a list": lambda: _seen(owner=_owner(address=["x"])),
    "a generation that is a text": lambda: _seen(owner=_owner(generation="7")),
    "a negative generation": lambda: _seen(owner=_owner(generation=-5)),
    "a generation that is no number": lambda: _seen(owner=_owner(generation=float("nan"))),
    "a generation too long to print": lambda: _seen(owner=_owner(generation=10**5000)),
    "attributes in a list": lambda: _seen(attributes=[1]),
    "an attribute that is a list": lambda: _seen(attributes={"image": ["x"]}),
    "an attribute without a name": lambda: _seen(attributes={3: 4}),
    "astray that is none": lambda: _seen(astray=None),
    "astray that is no number": lambda: _seen(astray=(Astray(path="x", live=1, meant=float("nan")),)),
}
WORDS: Mapping[str, Callable[[], Any]] = {
    "an address": lambda: _seen(owner=_owner(address=Address(EVIL))),
    "a detail": lambda: _seen(detail=EVIL, phase=Phase.FAILED),
    "an id and a URL": lambda: _seen(_info(sandbox_id=EVIL, sandbox_url=EVIL, container_name=EVIL)),
    "an address like ours": lambda: [
        seen
        for number, address in enumerate(("box[", "[[[", 'box["', "box[" + "9" * 30 + "]", "*", "..", " "))
        for seen in _seen(_info(sandbox_id=f"a{number}"), owner=_owner(address=Address(address)))
    ],
    "an address without end": lambda: _seen(owner=_owner(address=Address("x" * 1_000_000))),
    "something astray": lambda: _seen(
        owner=_owner(address=Address("box")), astray=(Astray(path=EVIL, live=EVIL, meant=EVIL),)
    ),
    "the same thing three times": lambda: _seen() * 3,
}
DOES = {**RAISES, **LIES, **WORDS}


class Hostile(SandboxBackend):
    """`does` names what it does when it is asked to `verb`; all else it does well."""

    capabilities = Capabilities(owns=True, logs=True, exec=True)

    def __init__(self, does: str = "", verb: str = "observe") -> None:
        self._does = does
        self._verb = verb

    def _when(self, verb: str, otherwise: Any) -> Any:
        if verb != self._verb:
            return otherwise
        print(EVIL + "printed")
        return DOES[self._does]() if self._does else otherwise

    def create(self, thread_id: Any, sandbox_id: str, extra_mounts: Any = None, *, spec: Any = None) -> Any:
        return self._when("create", _info(sandbox_id=sandbox_id))

    def destroy(self, info: Any) -> None:
        self._when("destroy", None)

    def is_alive(self, info: Any) -> Any:
        return self._when("is_alive", True)

    def discover(self, sandbox_id: str) -> Any:
        return self._when("discover", None)

    def observe(self) -> Sequence[ObservedSandbox]:
        found: Sequence[ObservedSandbox] = self._when("observe", _seen(owner=_owner(address=Address("box"))))
        return found

    def look(self, sandbox_id: str) -> Any:
        return self._when(
            "look", _seen(_info(sandbox_id=sandbox_id), owner=_owner(address=Address("box")))[0]
        )

    def place(self) -> Any:
        return self._when("place", "")

    def listen(self, tell: Any) -> Any:
        return self._when("listen", self)

    def provenance(self, sandbox_ids: Any) -> Any:
        return self._when("provenance", {})

    def notes(self) -> Any:
        return self._when("notes", ())

    def check(self) -> Any:
        return self._when("check", ())

    def usage(self, info: Any) -> Any:
        return self._when("usage", None)

    def request_headers(self, info: Any) -> Any:
        return self._when("request_headers", {})

    def probe(self, info: Any, readiness: Any, timeout: float) -> Any:
        return self._when("probe", ProbeAnswer(ready=True))

    def logs(self, info: Any, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        lines: Iterator[str] = self._when("logs", iter([EVIL]))
        return lines

    def exec(self, info: Any, command: Any, *, timeout: float = 60.0) -> Any:
        return self._when("exec", ExecResult(exit_code=0, stdout=EVIL, stderr=EVIL))

    def close(self) -> None:
        self._when("close", None)


class Unmakeable(Hostile):
    """Ends the interpreter when it is made."""

    def __init__(self) -> None:
        sys.exit(0)
