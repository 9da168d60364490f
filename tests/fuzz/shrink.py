"""From a scenario that breaks a rule to a small one that breaks the same rule: delta debugging on plain data.

Knows nothing of what the data means, except that a group or an address is the same thing wherever it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields, replace

from tests.fuzz.scenario import Declare, Group, Operation, Scenario

Fails = Callable[[Scenario], bool]


def shrink(scenario: Scenario, fails: Fails, *, most: int = 3000) -> Scenario:
    """The smallest scenario found that still fails. `most` bounds how often `fails` is asked; `scenario` itself fails."""
    asked = 0
    smaller: Scenario | None = scenario
    while smaller is not None:
        scenario, smaller = smaller, None
        for candidate in _candidates(scenario):
            if candidate == scenario:
                continue
            if asked >= most:
                return scenario
            asked += 1
            if fails(candidate):
                smaller = candidate
                break
    return scenario


def _candidates(scenario: Scenario) -> Iterator[Scenario]:
    """Simpler ones, those that leave most out first."""
    for operations in _without_some(scenario.operations):
        yield replace(scenario, operations=operations)
    yield from _everywhere(scenario)
    yield from _simpler(scenario)


def _without_some(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Without the later half, without the earlier, then quarters, down to single ones."""
    size = len(items)
    while size >= 1:
        size = size // 2 if size > 1 else 0
        if size == 0:
            break
        for start in range(len(items) - size, -1, -size):
            yield items[:start] + items[start + size :]
    if len(items) == 1:
        yield ()


def _everywhere(scenario: Scenario) -> Iterator[Scenario]:
    """A group left out, or made simpler by one field, in every configuration at once."""
    groups: dict[str, Group] = {}
    for operation in scenario.operations:
        if isinstance(operation, Declare):
            groups |= {group.name: group for group in operation.config.groups}
    plain = [field for field in fields(Group) if field.default is not NODEFAULT]
    for field in plain:
        yield _mapped(scenario, "", partial(_reset, field))
    for name in sorted(groups, reverse=True):
        yield _mapped(scenario, name, lambda _: None)
        for field in plain:
            yield _mapped(scenario, name, partial(_reset, field))


def _reset(field: FieldInfo, group: Group) -> Group:
    return replace(group, **{field.name: field.default})


def _mapped(scenario: Scenario, name: str, change: Callable[[Group], Group | None]) -> Scenario:
    """The scenario with every declaration of this group, "" of every group, changed, or, by None, left out."""
    operations: list[Operation] = []
    for operation in scenario.operations:
        if isinstance(operation, Declare):
            changed = (change(g) if name in ("", g.name) else g for g in operation.config.groups)
            config = replace(operation.config, groups=tuple(g for g in changed if g is not None))
            operation = replace(operation, config=config)  # noqa: PLW2901 - the changed one
        operations.append(operation)
    return replace(scenario, operations=tuple(operations))


def _simpler(value: Any) -> Iterator[Any]:
    """Values of the same kind with less in them."""
    if isinstance(value, Struct):
        yield from _simpler_data(value)
    elif isinstance(value, tuple):
        yield from _without_some(value)
        for index, item in enumerate(value):
            for simpler in _simpler(item):
                yield (*value[:index], simpler, *value[index + 1 :])
    elif isinstance(value, int) and not isinstance(value, bool) and value > 1:
        yield value // 2
        yield value - 1


def _simpler_data(value: Any) -> Iterator[Any]:
    for field in fields(value):
        now = getattr(value, field.name)
        if field.default is not NODEFAULT and now != field.default:
            yield replace(value, **{field.name: field.default})
        for simpler in _simpler(now):
            if simpler != field.default:
                yield replace(value, **{field.name: simpler})
