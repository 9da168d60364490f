"""Colour, width and liveness of a terminal, and Ctrl-C during an apply."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from reconciler.cli.terminal import Terminal, terminal_of

ROOT = Path(__file__).parents[2]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(environ: dict[str, str], *, tty: bool = True, no_color: bool = False) -> Terminal:
    kind = Tty if tty else io.StringIO
    return terminal_of(out=kind(), err=kind(), stdin=kind(), environ=environ, no_color=no_color)


def test_a_terminal_has_colour_and_can_be_asked():
    made = terminal({"TERM": "xterm-256color"})
    assert (made.style.colour, made.err_style.colour, made.interactive, made.live) == (True, True, True, True)


@pytest.mark.parametrize(
    ("environ", "more"),
    [
        ({"NO_COLOR": "1"}, {}),
        ({"TERM": "dumb"}, {}),
        ({}, {"no_color": True}),
        ({}, {"tty": False}),
    ],
    ids=["NO_COLOR", "a dumb terminal", "--no-color", "a pipe"],
)
def test_there_is_no_colour_with(environ, more):
    made = terminal(environ, **more)
    assert not made.style.colour
    assert not made.err_style.colour


def test_an_empty_no_color_counts_as_not_set():
    assert terminal({"NO_COLOR": ""}).style.colour


@pytest.mark.parametrize(
    ("environ", "tty"), [({"TERM": "dumb"}, True), ({}, False)], ids=["a dumb terminal", "a pipe"]
)
def test_nothing_is_redrawn_on(environ, tty):
    assert not terminal(environ, tty=tty).live


def test_nobody_can_be_asked_through_a_pipe():
    assert not terminal({}, tty=False).interactive


@pytest.mark.parametrize(
    ("columns", "width"),
    [("200", 200), ("60", 60), ("7", 40), ("x", 120)],
    ids=["wide", "narrow", "tiny", "nonsense"],
)
def test_the_width_comes_from_columns_and_never_gets_absurd(columns, width):
    assert terminal({"COLUMNS": columns}, tty=False).width == width


@pytest.mark.parametrize(
    ("columns", "width"), [(0, 120), (100, 100), (7, 40)], ids=["nobody has said", "usual", "tiny"]
)
def test_the_width_is_that_of_the_terminal(columns, width):
    """A terminal that nobody looks at, as `script` and `docker run -t` make them, may not know."""
    other, own = pty.openpty()
    try:
        fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with open(own, "w", encoding="utf-8") as stream:
            made = terminal_of(out=stream, err=stream, stdin=stream, environ={})
            assert made.width == width
    finally:
        os.close(other)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------

_RUN = """
import sys, time
from reconciler.cli.interrupts import draining, write_notice
from reconciler.engine.execute import StopRequest

stop = StopRequest()
with draining(stop, write_notice):
    print("running", flush=True)
    while not stop.requested:
        time.sleep(0.005)
    print("draining", flush=True)
    while sys.argv[1] == "for ever":
        time.sleep(0.005)
print("saved", flush=True)
"""


def start(how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_says_so(number):
    with start("once") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert out == "draining\nsaved\n"
    assert "press Ctrl-C again to leave at once" in err
    assert child.returncode == 0


def test_the_second_signal_leaves_at_once_with_130():
    with start("for ever") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "draining\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out == ""
    assert "the next run finds out what is there" in err


def test_outside_of_an_apply_ctrl_c_is_what_it_was():
    code = _RUN.split("with draining")[0] + (
        "import signal\nbefore = signal.getsignal(signal.SIGINT)\n"
        "with draining(stop, write_notice, live=True): pass\nassert signal.getsignal(signal.SIGINT) is before\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30
    )


def test_what_a_signal_says_is_broken_between_words_on_a_narrow_terminal():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    code = "from reconciler.cli.interrupts import write_notice, _FIRST\nwrite_notice(_FIRST)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, stderr=theirs, timeout=30)
    os.close(theirs)
    told = os.read(ours, 4096).decode().splitlines()
    os.close(ours)
    assert max(map(len, told)) <= 40
    assert " ".join(told).strip().endswith("press Ctrl-C again to leave at once")
