"""Ports of the host: free ones for the engine, which takes no 0 to choose itself, and which of ours is taken."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from reconciler.backends.apple.command import PortTaken
from reconciler.errors import Permanent
from reconciler.model.desired import Port


def free_ports(ports: Sequence[Port]) -> dict[str, int]:
    """A free port of the host for each that we choose, all different. The engine takes no 0 to choose itself."""
    found: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for port in ports:
            if port.host is None:
                found[port.name] = held.enter_context(_bound(port.bind, 0)).getsockname()[1]
    return found


def refuse_taken(ports: Sequence[Port], error: PortTaken) -> None:
    """Says which of the declared ports it is, as the engine does not."""
    for port in ports:
        if port.host is not None:
            try:
                _bound(port.bind, port.host).close()
            except Permanent:
                raise PortTaken(
                    f"port {port.host} of {port.bind}, declared as {port.name}, belongs to another program",
                    hint="choose another host port, or `auto`",
                ) from error


def _bound(address: str, number: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if number:  # as the engine binds: what lingers of an earlier owner is no reason to refuse
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, number))
    except OSError as error:
        made.close()
        raise Permanent(
            f"port {number or 'auto'} of {address} cannot be bound: {error.strerror}",
            hint="`bind` must be an address of this machine",
        ) from error
    return made
