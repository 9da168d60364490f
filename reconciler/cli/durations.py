"""Durations on the command line (250ms, 30s, 5m, 2h, or a plain number of seconds), and numbers of or within something."""

from __future__ import annotations

import re

import click

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType[float]):
    """Turns `1m30s` into 90.0."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not text or _PART.sub("", text):
            self.fail(f"{text!r} is no duration; write it as 30s, 5m or 1h30m", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


DURATION = Duration()


class Rate(click.ParamType[tuple[int, float]]):
    """Turns `8/1h` into (8, 3600.0)."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, float]:
        if isinstance(value, tuple):
            return value
        count, slash, time = str(value).partition("/")
        if not slash or not count.isdigit() or int(count) < 1:
            self.fail(f"{value!r} is not a number of times within a time; write it as 8/1h", param, ctx)
        return int(count), DURATION.convert(time, param, ctx)


class Share(click.ParamType[tuple[int, int]]):
    """Turns `3/5` into (3, 5)."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        part, _, whole = str(value).partition("/")
        if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
            self.fail(f"{value!r} is not so many of so many; write it as 3/5", param, ctx)
        return int(part), int(whole)


RATE = Rate()
SHARE = Share()
