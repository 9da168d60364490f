"""What an engine's failures mean in our words: its errors by status and text, and a connection that fails. Pure.

A text that is not known here is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.errors import BackendError, Conflict, NoSpace, NotFound, Permanent, Transient, Unavailable


def failure(status: int, message: str, engine: str) -> BackendError:
    """An answer of the engine that is an error, by its status and its words."""
    text = " ".join(message.split()).rstrip(".")
    low = text.lower()
    if status == 404 and low.startswith(("no such container", "no such image")):
        return NotFound(text)  # before the words below, one of which may be its name
    # Podman gives both of these status 500.
    if low.endswith(": no such container"):
        return NotFound(text)
    if status == 409 or ("container name" in low and "already in use" in low):
        return Conflict(text)
    for words, hint, kind in _KNOWN:
        if any(word in low for word in words):
            return kind(text, hint=hint)
    if status == 404:
        return NotFound(text)
    if status == 429 or status in (502, 503, 504):
        return Transient(f"the engine at {engine} is busy: {text}")
    if status >= 500:
        return Transient(f"the engine at {engine} failed: {text}", hint="its own log says more")
    return Permanent(text)


_KNOWN: tuple[tuple[tuple[str, ...], str, type[BackendError]], ...] = (
    (
        ("no space left on device", "disk quota exceeded"),
        "the engine's disk is full: `docker system df` shows what takes it, `docker system prune` frees it",
        NoSpace,
    ),
    (
        ("port is already allocated", "address already in use"),
        "another program has that port: use `host: auto`, or free it",
        Conflict,
    ),
    (
        ("cannot allocate memory",),
        "this machine is out of memory: stop something, or lower `memory:`",
        Transient,
    ),
    (
        (
            "unable to set memory limit",
            "memory limit too low",
            "minimum memory limit",
            "smaller than the minimum",
        ),
        "that is too little for this container: use a higher `resources.memory`",
        Permanent,
    ),
    (("range of cpus is from",), "the machine has fewer processors: lower `resources.cpu`", Permanent),
    (
        ("unknown runtime", "runtime not found", "unknown or invalid runtime"),
        "install that runtime for the engine, or leave out `runtime`",
        Permanent,
    ),
    (("bind source path does not exist", "mount source path"), "create it, or fix the path", Permanent),
    (
        ("executable file not found", "no such file or directory: unknown"),
        "the image has no such program: fix `command` or `entrypoint`",
        Permanent,
    ),
    (
        ("no such host",),
        "is the registry's name right, and does the engine reach it? An image of this machine needs its exact tag",
        Permanent,
    ),
    (("unable to find user", "no matching entries in passwd"), "the image knows no such user", Permanent),
    (
        ("unauthorized", "authentication required", "access to the resource is denied", "pull access denied"),
        "is the name right? `docker login` to that registry first",
        Permanent,
    ),
)


def unreachable(error: BaseException, engine: str, timeout: float) -> BackendError:
    """What a failed connection means, judged by the root of a chain of wrapped errors."""
    chain = list(_chain(error))
    told = f"the engine at {engine}"
    if any(isinstance(link, PermissionError) for link in chain):
        return Permanent(
            f"no permission to use {told}",
            hint="add this user to the group of the socket (`sudo usermod -aG docker $USER`, then log in again)",
        )
    if any(isinstance(link, FileNotFoundError) for link in chain):
        return Unavailable(
            f"{told} is not there: no such socket",
            hint="start Docker (`systemctl start docker`), or say where it is: `host:` of the backend, or DOCKER_HOST",
        )
    if any(isinstance(link, ConnectionRefusedError) for link in chain):
        return Unavailable(f"{told} refuses connections", hint="is it running? `systemctl status docker`")
    if any(isinstance(link, TimeoutError) or "Timeout" in type(link).__name__ for link in chain):
        return Unavailable(
            f"{told} did not answer within {timeout:g}s",
            hint="it may be overloaded: try again, or raise `timeout:` of the backend",
        )
    return Unavailable(f"{told} cannot be reached: {chain[-1]}", hint="`reconciler doctor` looks into it")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it wraps: libraries keep the cause as an argument, a reason or a context."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        link = todo.pop()
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            todo += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
