"""What a YAML text consists of, one thing after the other, as a parser tells it: nodes are made of these.

Records of our own, so that they can be kept (`readings`), and made into nodes again without a parser.
"""

from __future__ import annotations

from msgspec import Struct


class Place(Struct, frozen=True, array_like=True, gc=False):
    """Counted from 0, in lines and characters."""

    line: int
    column: int


class Spanned(Struct, array_like=True, tag_field="kind"):
    """From where to where."""

    start_mark: Place
    end_mark: Place


class Scalar(Spanned, tag=0):
    """`plain`: without quotes, so that its text says what it is. `style` is its quote, or the sign of a block of text."""

    value: str
    plain: bool
    style: str | None = None
    tag: str | None = None
    anchor: str | None = None


class Alias(Spanned, tag=1):
    anchor: str


class MappingStart(Spanned, tag=2):
    tag: str | None = None
    anchor: str | None = None


class SequenceStart(Spanned, tag=3):
    tag: str | None = None
    anchor: str | None = None


class MappingEnd(Spanned, tag=4):
    pass


class SequenceEnd(Spanned, tag=5):
    pass


class StreamEnd(Spanned, tag=6):
    pass


class Other(Spanned, tag=7):
    """The begin of the stream, and where a document begins and ends."""


Event = Scalar | Alias | MappingStart | SequenceStart | MappingEnd | SequenceEnd | StreamEnd | Other


class Garbled(Exception):
    """There is a character in it that no YAML may hold."""


class Misspelt(Exception):
    """It is not YAML. The parser's own words: while doing what, begun where, it found what, where."""

    def __init__(
        self, context: str, context_mark: Place | None, problem: str, problem_mark: Place | None
    ) -> None:
        super().__init__(context, problem)
        self.context, self.context_mark = context, context_mark
        self.problem, self.problem_mark = problem, problem_mark
