"""`python -m reconciler.sandboxd`, also started by path under `python -I -S`.

The key comes by descriptor or file, never as an argument. `--own-env NAME` is a variable meant for this process and
kept from the commands it runs. When `--ready-fd` is given, one byte is written there once
requests are accepted.
"""

from __future__ import annotations

import os
import sys

if (
    not __package__
):  # started by path: an empty parent package stands in, as nothing else of it may be visible here
    _parent = type(sys)("reconciler")
    _parent.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules["reconciler"] = _parent

from reconciler.sandboxd.routes import Routes
from reconciler.sandboxd.server import Server
from reconciler.sandboxd.wire import inherited, listener

_OPTIONS = {
    "host": "127.0.0.1",
    "port": "8080",
    "home": "",
    "key-file": "",
    "key-fd": "",
    "listen-fd": "",
    "ready-fd": "",
    "max-pids": "",
    "own-env": "",
}


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    if options is None:
        names = " ".join(f"[--{name} VALUE]" for name in _OPTIONS)
        sys.stderr.write(f"usage: python -m reconciler.sandboxd {names}\n")
        return 64
    key = _key(options)
    _hide_memory()
    if options["max-pids"]:
        _limit_processes(int(options["max-pids"]))
    home = options["home"] or os.path.expanduser("~")
    if options["listen-fd"]:
        listening = inherited(int(options["listen-fd"]))
    else:
        listening = listener(options["host"], int(options["port"]))
    env = {name: value for name, value in os.environ.items() if name != options["own-env"]}
    routes = Routes(home=home, env=env, port=listening.getsockname()[1])
    server = Server(listening, routes=routes, key=key)
    if options["ready-fd"]:
        fd = int(options["ready-fd"])
        os.write(fd, b"1")
        os.close(fd)
    server.run()
    return 0


def _parse(arguments: list[str]) -> dict[str, str] | None:
    options = dict(_OPTIONS)
    words = iter(arguments)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in options:
            return None
        options[name] = value if equals else next(words, "")
    return options


def _key(options: dict[str, str]) -> str | None:
    """Read to its end and closed, so that no command inherits it."""
    source: int | str = int(options["key-fd"]) if options["key-fd"] else options["key-file"]
    if source == "":
        return None
    with open(source, encoding="utf-8") as file:
        return file.read().strip()


def _hide_memory() -> None:
    """PR_SET_DUMPABLE 0: a command of the same user can then neither trace this process nor take its sockets and
    key out of /proc; in an isolated network the listening socket would be a way out."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(4, 0, 0, 0, 0)


def _limit_processes(count: int) -> None:
    """Set in here, inside the user namespace, where the kernel counts this sandbox's processes alone."""
    import resource

    resource.setrlimit(resource.RLIMIT_NPROC, (count, count))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
