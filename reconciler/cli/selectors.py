"""The options that choose a part of a plan, for every command that makes one, and what of them makes no sense together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from reconciler.model.plan import Selection

_PATTERN = "an address, a group's name, a glob such as `worker*`, or `label:KEY=VALUE`"


def _not_empty(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """What an unset shell variable leaves behind means nobody, and must not come to mean everybody."""
    if "" in value:
        raise click.BadParameter("it is empty", ctx=context, param=option)
    return value


def _patterns(name: str, variable: str, text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return click.option(
        name,
        variable,
        multiple=True,
        metavar="ADDRESS",
        callback=_not_empty,
        help=f"{text}; may be repeated.",
    )


_PARTS = (
    _patterns("--target", "targets", f"Only this, and what it needs: {_PATTERN}"),
    _patterns("--exclude", "excludes", "All but this, and what needs it"),
)
_WAYS = (
    _patterns("--replace", "replace", "Replace this, changed or not"),
    click.option(
        "--refresh-only", is_flag=True, help="Record what is there as it is, and change nothing about it."
    ),
    click.option(
        "--no-refresh", is_flag=True, help="Plan on what is recorded, without asking a backend first."
    ),
    click.option("--destroy", is_flag=True, help="Destroy every sandbox of the stack, or what is selected."),
)


def selectors(function: Callable[..., int]) -> Callable[..., int]:
    """`--target`, `--exclude`, `--replace`, `--refresh-only`, `--no-refresh` and `--destroy`."""
    return _with(function, (*_PARTS, *_WAYS))


def part_selectors(function: Callable[..., int]) -> Callable[..., int]:
    """`--target` and `--exclude` alone."""
    return _with(function, _PARTS)


def _with(function: Callable[..., int], options: Sequence[Callable[..., Any]]) -> Callable[..., int]:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


def selection_of(
    *,
    targets: tuple[str, ...] = (),
    excludes: tuple[str, ...] = (),
    replace: tuple[str, ...] = (),
    refresh_only: bool = False,
    no_refresh: bool = False,
    destroy: bool = False,
) -> Selection:
    """The options' values as one. Raises UsageError for those that contradict each other."""
    senseless = (
        (refresh_only and replace, "--refresh-only changes nothing, and --replace does"),
        (refresh_only and destroy, "--refresh-only changes nothing, and --destroy does"),
        (refresh_only and no_refresh, "--refresh-only is about what --no-refresh does not look at"),
        (replace and destroy, "--replace makes anew what --destroy takes away"),
    )
    for is_so, why in senseless:
        if is_so:
            raise click.UsageError(f"{why}: choose one of them", ctx=click.get_current_context(silent=True))
    return Selection(
        targets=targets,
        excludes=excludes,
        replace=replace,
        refresh_only=refresh_only,
        refresh=not no_refresh,
        destroy=destroy,
    )
