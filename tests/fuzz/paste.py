"""A scenario as a test to paste: its source with nothing said that is the default, and every import it needs."""

from __future__ import annotations

import re
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from reconciler.model import lifecycle
from tests.fuzz.live import Broken
from tests.fuzz.scenario import Scenario

WIDTH = 100


def pasteable(scenario: Scenario, broken: Broken, *, seed: int | None = None) -> str:
    """A whole file with one test in it, which fails as long as the bug is there."""
    used = _classes(scenario)
    ours = sorted(name for name, module in used.items() if module != lifecycle.__name__)
    theirs = sorted(name for name, module in used.items() if module == lifecycle.__name__)
    imports = [f"from {lifecycle.__name__} import {', '.join(theirs)}"] if theirs else []
    imports += ["from tests.fuzz.live import hold", f"from tests.fuzz.scenario import {', '.join(ours)}"]
    name = re.sub(r"[^a-z0-9]+", "_", broken.rule.lower()).strip("_")
    found = "" if seed is None else f"Found by seed {seed}. "
    lines = [
        "from __future__ import annotations\n",
        *imports,
        "\n",
        f"def test_{name}() -> None:",
        f'    """{found}{_told(broken)}"""',
        f"    hold(\n        {source(scenario, 8)}\n    )",
    ]
    return "\n".join(lines) + "\n"


def source(value: Any, indent: int = 0) -> str:
    """Python source that makes the value, broken into lines where it is long."""
    if isinstance(value, Struct):
        parts = [
            f"{field.name}={{}}".format(source(getattr(value, field.name), indent + 4))
            for field in fields(value)
            if field.default is NODEFAULT or getattr(value, field.name) != field.default
        ]
        return _wrapped(f"{type(value).__name__}(", parts, ")", indent)
    if isinstance(value, tuple):
        parts = [source(item, indent + 4) for item in value]
        return (
            f"({parts[0]},)"
            if len(parts) == 1 and "\n" not in parts[0]
            else _wrapped("(", parts, ")", indent)
        )
    return (
        '"' + value + '"'
        if isinstance(value, str) and '"' not in value and "\\" not in value
        else repr(value)
    )


def _wrapped(begin: str, parts: list[str], end: str, indent: int) -> str:
    flat = begin + ", ".join(parts) + end
    if len(flat) + indent <= WIDTH and "\n" not in flat:
        return flat
    inner = " " * (indent + 4)
    return begin + "\n" + "".join(f"{inner}{part},\n" for part in parts) + " " * indent + end


def _classes(value: Any) -> dict[str, str]:
    """Every class that its source names, with the module it is from."""
    found: dict[str, str] = {}
    if isinstance(value, Struct):
        found[type(value).__name__] = type(value).__module__
        for field in fields(value):
            if field.default is NODEFAULT or getattr(value, field.name) != field.default:
                found |= _classes(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            found |= _classes(item)
    return found


def _told(broken: Broken) -> str:
    when = "in the end" if broken.after is None else f"after operation {broken.after}"
    how = broken.how.splitlines()[0].replace("\\", "/").replace('"', "'")[:160]
    return f"{broken.rule.capitalize()}; {when}: {how}"
