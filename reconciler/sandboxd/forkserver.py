"""Forks keepers: a Python that has started and imported once, for all the sandboxes that are begun at the same time.

Started by path under `python -I -S` with the descriptor of a socket, for whoever looks the place of the sandboxes, and room for
a keeper's title; it ends when nobody has the other end of the socket any more.
Each byte that comes through carries the descriptors of one keeper, in the order of `keeper.keep`'s arguments, and then
the keeper's log. It never sees what a keeper is told: that is read by the keeper itself, after the fork.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

if not __package__:  # started by path: an empty parent package stands in, as the server's does
    _parent = type(sys)("reconciler")
    _parent.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules["reconciler"] = _parent

from reconciler.sandboxd import keeper
from reconciler.sandboxd.title import Title

_DESCRIPTORS = 5


def main() -> None:
    orders = socket.socket(fileno=int(sys.argv[1]))
    title = Title()
    title.set(sys.orig_argv[:-1])  # without the room for longer ones
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a keeper that ends while this one lives is collected
    gc.disable()  # until it is a keeper: what a collector writes to, every fork has to copy
    gc.freeze()
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, 1, _DESCRIPTORS)
        if not order:
            os._exit(0)
        if len(descriptors) == _DESCRIPTORS:
            _fork(orders, title, descriptors)
        for fd in descriptors:
            os.close(fd)


def _fork(orders: socket.socket, title: Title, descriptors: list[int]) -> None:
    status_fd = descriptors[1]
    try:
        pid = os.fork()
    except OSError as error:
        with contextlib.suppress(OSError):  # nobody waits for it any more; others do for theirs
            os.write(status_fd, f"0\n{error.errno} fork".encode())
        return
    if pid == 0:
        code = 1
        try:
            orders.close()
            code = _become_keeper(title, descriptors)
        except BaseException:  # noqa: BLE001 - a fork must never run on as a second server
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)


def _become_keeper(title: Title, descriptors: list[int]) -> int:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.enable()  # this one lives for as long as its sandbox
    *told, log = descriptors
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
    script = os.path.join(os.path.dirname(sys.orig_argv[3]), "keeper.py")
    return keeper.keep(*told, named=lambda directory: title.set([*sys.orig_argv[:3], script, directory]))


if __name__ == "__main__":
    main()
