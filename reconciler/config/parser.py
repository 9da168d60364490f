"""The events of a YAML text, from PyYAML, in C where it is built so. Loaded only for a text that was not read before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import yaml

from reconciler.config import events
from reconciler.config.events import Garbled, Misspelt, Place


def parsed(text: str) -> Iterator[events.Event]:
    """Each as soon as it is known. Raises Garbled and Misspelt on the way."""
    try:
        following = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_event
        while True:
            event = following()
            yield _MADE.get(type(event), _other)(event)
            if type(event) is yaml.StreamEndEvent:
                return
    except yaml.reader.ReaderError as error:
        raise Garbled from error
    except yaml.MarkedYAMLError as error:
        raise Misspelt(
            error.context or "", _place(error.context_mark), error.problem or "", _place(error.problem_mark)
        ) from error


def _place(mark: Any) -> Place | None:
    return None if mark is None else Place(mark.line, mark.column)


def _span(event: Any) -> tuple[Place, Place]:
    """PyYAML's own marks: they are as good as ours, until they are kept."""
    return event.start_mark, event.end_mark


def _scalar(event: Any) -> events.Scalar:
    return events.Scalar(*_span(event), event.value, event.implicit[0], event.style, event.tag, event.anchor)


def _alias(event: Any) -> events.Alias:
    return events.Alias(*_span(event), event.anchor)


def _other(event: Any) -> events.Other:
    return events.Other(*_span(event))


_MADE: dict[type, Callable[[Any], events.Event]] = {
    yaml.ScalarEvent: _scalar,
    yaml.AliasEvent: _alias,
    yaml.MappingStartEvent: lambda e: events.MappingStart(*_span(e), e.tag, e.anchor),
    yaml.SequenceStartEvent: lambda e: events.SequenceStart(*_span(e), e.tag, e.anchor),
    yaml.MappingEndEvent: lambda e: events.MappingEnd(*_span(e)),
    yaml.SequenceEndEvent: lambda e: events.SequenceEnd(*_span(e)),
    yaml.StreamEndEvent: lambda e: events.StreamEnd(*_span(e)),
}
