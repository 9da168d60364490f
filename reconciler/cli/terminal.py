"""The terminal a command talks to: streams, width, colour, and whether somebody is there to answer.

Everything a command prints goes through here. Answers go to `out`, everything else to `err`.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from typing import TextIO

from msgspec import Struct

from reconciler.cli.views.style import Style, harmless

_WIDTH_OF_A_PIPE = 120
_NARROWEST = 40


class Terminal(Struct, frozen=True, kw_only=True):
    """`width` in columns. `interactive`: a person can be asked. `live`: progress may be redrawn in place."""

    out: TextIO
    err: TextIO
    stdin: TextIO
    width: int
    style: Style
    err_style: Style
    interactive: bool
    live: bool

    def answer(self, text: str) -> None:
        """Text that was asked for, as it is."""
        self.out.write(text)
        self.out.flush()

    def line(self, text: str) -> None:
        self.answer(text + "\n")

    def abandon_broken(self) -> None:
        """Send what is written from now on nowhere, on those streams that nobody reads any more."""
        for stream in (self.out, self.err):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def tell(self, text: str) -> None:
        """A line about the work, not part of the answer."""
        self.err.write(text + "\n")
        self.err.flush()


class Aside(io.TextIOBase):
    """Where prints go that are none of ours: lines to `stream`, with what could steer a terminal written out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.write("\n".join(map(harmless, text.split("\n"))))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def terminal_of(
    *, out: TextIO, err: TextIO, stdin: TextIO, environ: Mapping[str, str], no_color: bool = False
) -> Terminal:
    """The terminal of these streams: NO_COLOR, TERM=dumb, COLUMNS and redirections are honoured."""
    for stream in (out, err):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a "→" must not end a run on a terminal that has none
            reconfigure(errors="replace")
    dumb = environ.get("TERM") == "dumb"
    painted = not (no_color or environ.get("NO_COLOR") or dumb)
    return Terminal(
        out=out,
        err=err,
        stdin=stdin,
        width=_width(environ, out, err),
        style=Style(colour=painted and out.isatty()),
        err_style=Style(colour=painted and err.isatty()),
        interactive=stdin.isatty() and err.isatty(),
        live=err.isatty() and not dumb,
    )


def _width(environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    if re.fullmatch("[0-9]{1,5}", environ.get("COLUMNS", "")):
        return max(_NARROWEST, int(environ["COLUMNS"]))
    for stream in (out, err):
        if stream.isatty():
            try:
                columns = os.get_terminal_size(stream.fileno()).columns
            except OSError:
                break
            return max(_NARROWEST, columns) if columns else _WIDTH_OF_A_PIPE  # 0 where nobody has said
    return _WIDTH_OF_A_PIPE
