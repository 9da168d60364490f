"""A `container` command for tests: what Apple's says and does, as far as a backend can tell, on any machine.

`Engine` writes the command into a directory of its own, together with the engine's world: a JSON file under a lock,
one process per running container that answers /v1/sandbox on the published addresses, and the log of all calls. Both
generations of its JSON are spoken, and the failures that are known of it: an id that is not there fails an inspection
as a whole (since 1.0), a name or a port that is taken, a system that was not started. Only the standard library, and little of it, imported late: every call starts it anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False  # the module that has it is slow to import
if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from typing import Any

OLD, NEW = "0.12", "1.2"  # the generations, by a version that speaks them
_EPOCH_2001 = 978307200.0


class Failed(Exception):
    """What ends a call with exit code 1 and these words."""

    exit_code = 1


class Usage(Failed):
    exit_code = 64


# -- for tests


class Engine:
    """The world of an installed fake, seen from a test."""

    def __init__(self, directory: str | Path, generation: str = NEW) -> None:
        self.root = str(directory)
        os.makedirs(os.path.join(self.root, "bin"), exist_ok=True)
        self.binary = os.path.join(self.root, "bin", "container")
        with open(self.binary, "w") as file:
            file.write(
                f"#!{sys.executable} -IS\nimport sys\nsys.path.append({os.path.dirname(os.path.abspath(__file__))!r})\n"
                f"from fake_container import call\ncall({self.root!r}, {generation!r}, sys.argv[1:])\n"
            )
        os.chmod(self.binary, 0o755)

    def calls(self) -> list[list[str]]:
        """The arguments of every call so far, in order."""
        try:
            with open(os.path.join(self.root, "calls.jsonl")) as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def forget_calls(self) -> None:
        os.truncate(os.path.join(self.root, "calls.jsonl"), 0)

    def set(self, **knobs: object) -> None:
        """`system`: running or stopped. `fail`: verb → the words it fails with, once each. `taken`: how many coming
        `run`s find their port taken. `dies`: how many coming starts end at once. `slow`: verb → seconds. `answer`: verb → text it prints instead."""
        with world(self.root) as state:
            state["knobs"].update(knobs)

    def container(self, name: str) -> Any:
        """What the engine knows of a container; None when there is none."""
        with world(self.root) as state:
            return state["containers"].get(name)

    def add(self, name: str, *words: str) -> None:
        """A running container that somebody else made."""
        import subprocess

        subprocess.run(
            [self.binary, "run", "-d", "--name", name, *words, "image"], check=True, capture_output=True
        )

    def change(self, name: str, **fields: object) -> None:
        """Fields of a container as the engine keeps it."""
        with world(self.root) as state:
            state["containers"][name].update(fields)

    def kill(self, name: str) -> None:
        """Its first process dies."""
        with world(self.root) as state:
            end(self.root, state["containers"][name])

    def close(self) -> None:
        with world(self.root) as state:
            for one in state["containers"].values():
                if alive(self.root, one):
                    os.kill(one["pid"], signal.SIGKILL)


# -- the world


class world:  # noqa: N801 - reads as a verb
    """The state under its lock, written back at the end."""

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, "world.json")

    def __enter__(self) -> dict[str, Any]:
        self.lock = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            with open(self.path) as file:
                self.state = json.load(file)
        except FileNotFoundError:
            self.state = {"containers": {}, "knobs": {}, "made": 0}
        return self.state

    def __exit__(self, *_: object) -> None:
        with open(self.path + ".new", "w") as file:
            json.dump(self.state, file)
        os.replace(self.path + ".new", self.path)
        os.close(self.lock)


def alive(root: str, one: dict[str, Any]) -> bool:
    """Its process holds a lock as long as it lives, whoever is its parent."""
    descriptor = os.open(os.path.join(root, one["run"]), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def serve(log: int, listening: list[socket.socket]) -> None:
    """A container's first process."""
    import select

    sys.stdout.flush()
    for descriptor, target in ((os.open(os.devnull, os.O_RDWR), (0,)), (log, (1, 2))):
        for number in target:
            os.dup2(descriptor, number)
    os.write(1, b"the sandbox is up\nlistening\n")
    body = b'{"success":true,"data":null,"home_dir":"/home/gem","version":"fake","detail":{}}'
    while True:
        for ready in select.select(listening, [], [])[0]:  # none: it sleeps for ever
            with ready.accept()[0] as client:
                client.settimeout(2)
                asked = client.recv(65536).split(b" ")[1:2]
                found = asked == [b"/v1/sandbox"]
                status = b"200 OK" if found else b"404 Not Found"
                text = body if found else b"{}"
                client.sendall(
                    b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                    % (status, len(text), text)
                )


# -- the command


FLAGS = {"-d": 0, "--read-only": 0, "--init": 0}
VALUES = [
    "--name",
    "--progress",
    "-p",
    "-l",
    "-v",
    "--mount",
    "--tmpfs",
    "-c",
    "-m",
    "--shm-size",
    "--cap-drop",
    "--cap-add",
    "-u",
    "--network",
    "--runtime",
    "--entrypoint",
    "-e",
    "--env-file",
]


def parse_run(words: list[str], generation: str) -> tuple[dict[str, Any], str, list[str]]:
    given: dict[str, Any] = {}
    words = list(words)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--shm-size" and generation == OLD:
            raise Usage(
                f"Unknown option '{word}'\nUsage: container run [<options>] <image> [<arguments> ...]"
            )
        if word in FLAGS:
            given[word] = True
        elif word in VALUES:
            given.setdefault(word, []).append(words.pop(0))
        else:
            raise Usage(f"Unknown option '{word}'")
    if not words:
        raise Usage("Missing expected argument '<image>'")
    return given, words[0], words[1:]


def run(root: str, generation: str, words: list[str]) -> None:
    given, image, command = parse_run(words, generation)
    name = given["--name"][0]
    with world(root) as state:
        if name in state["containers"]:
            raise Failed(f'exists: "container with id {name} already exists"')
        if state["knobs"].get("taken"):
            state["knobs"]["taken"] -= 1
            raise Failed('unknown: "bind(descriptor:ptr:bytes:): Address already in use (errno: 48)"')
        if image.startswith("no-such"):
            raise Failed(f'notFound: "image {image} not found"')
        configuration = configure(name, given, image, command, generation)
        listening = [listen(port) for port in configuration["publishedPorts"]]
        state["made"] += 1
        one = {
            "configuration": configuration,
            "run": f"{name}.{state['made']}.run",
            "log": f"{name}.{state['made']}.log",
            "started": int(time.time()),
        }
        state["containers"][name] = one
        os.makedirs(disk(root, one))
        one["pid"] = start(root, one, listening)
    print(name)


def configure(
    name: str, given: dict[str, Any], image: str, command: list[str], generation: str
) -> dict[str, Any]:
    labels = {}
    for label in given.get("-l", []):
        parts = [part for part in label.split("=", 2) if part]
        if len(parts) == 3 or not parts:
            raise Failed(f'invalidArgument: "invalid label format {label}"')
        labels[parts[0]] = parts[1] if len(parts) == 2 else ""
    networks = given.get("--network", ["default"])
    configuration = {
        "id": name,
        "image": {"reference": f"docker.io/library/{image}", "descriptor": {"digest": "sha256:" + "0" * 64}},
        "labels": labels,
        "publishedPorts": [publish(text) for text in given.get("-p", [])],
        "resources": {
            "cpus": int(given.get("-c", ["4"])[0]),
            "memoryInBytes": size(given.get("-m", ["1024M"])[0]),
        },
        "mounts": [
            *(
                {"type": {"tmpfs": {}}, "source": "tmpfs", "destination": t, "options": []}
                for t in given.get("--tmpfs", [])
            ),
            *(volume(text) for text in given.get("-v", [])),
            *(mount(text) for text in given.get("--mount", [])),
        ],
        "networks": []
        if networks == ["none"]
        else [{"network": n, "options": {"hostname": name}} for n in networks],
        "initProcess": {
            "executable": given.get("--entrypoint", ["/entry"])[0],
            "arguments": command,
            "environment": environment(given),
            "user": {"raw": {"userString": given["-u"][0]}}
            if "-u" in given
            else {"id": {"uid": 0, "gid": 0}},
        },
        "readOnly": "--read-only" in given,
        "useInit": "--init" in given,
        "capDrop": given.get("--cap-drop", []),
        "capAdd": given.get("--cap-add", []),
        "runtimeHandler": given.get("--runtime", ["container-runtime-linux"])[0],
    }
    if generation == NEW:
        configuration["creationDate"] = int(time.time())
        if "--shm-size" in given:
            configuration["shmSize"] = size(given["--shm-size"][0])
    return configuration


def environment(given: dict[str, Any]) -> list[str]:
    """As it is read there: the image's, the files', then single ones; a bare name is taken from the environment."""
    found = {"PATH": "/usr/local/bin:/usr/bin:/bin", "IMAGE_OWN": "1"}
    for path in given.get("--env-file", []):
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        for end in "\r\x0b\x0c\x85\u2028\u2029":
            text = text.replace(end, "\n")
        for line in map(str.lstrip, text.split("\n")):
            if line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found[name] = value
    for word in given.get("-e", []):
        name, equals, value = word.partition("=")
        if equals or name in os.environ:
            found[name] = value if equals else os.environ[name]
    return [f"{name}={value}" for name, value in found.items()]


def size(text: str) -> int:
    if not text.endswith("M"):
        raise Failed(f'invalidArgument: "invalid size {text}"')
    return int(text[:-1]) * 1024 * 1024


def publish(text: str) -> dict[str, Any]:
    place, _, inside = text.rpartition(":")
    address, _, outside = place.rpartition(":")
    if int(outside) < 2:
        raise Failed(f'invalidArgument: "invalid publish host port range: {outside}"')
    return {
        "hostAddress": address.strip("[]") or "0.0.0.0",
        "hostPort": int(outside),
        "containerPort": int(inside),
        "proto": "tcp",
        "count": 1,
    }


def volume(text: str) -> dict[str, Any]:
    parts = text.lstrip(":").split(":")
    if len(parts) not in (2, 3):
        raise Failed(f'invalidArgument: "invalid volume format {text}"')
    options = parts[2].split(",") if len(parts) == 3 else []
    if "/" in parts[0]:
        kind: dict[str, Any] = {"virtiofs": {}}
        if not os.path.exists(parts[0]):
            raise Failed(f"invalidArgument: \"path '{parts[0]}' does not exist\"")
    else:
        kind = {"volume": {"name": parts[0], "format": "ext4", "cache": "on", "sync": "fsync"}}
    source = parts[0] if "/" in parts[0] else f"/volumes/{parts[0]}/volume.img"
    return {"type": kind, "source": source, "destination": parts[1], "options": options}


def mount(text: str) -> dict[str, Any]:
    found, options = {}, []
    for part in text.split(","):
        pair = [word for word in part.split("=", 2) if word]
        if pair == ["readonly"]:
            options.append("ro")
        elif len(pair) != 2 or pair[0] not in ("type", "source", "target", "size"):
            raise Failed(f'invalidArgument: "invalid directive format missing value {part} in {text}"')
        else:
            found[pair[0]] = pair[1]
    if found["type"] == "tmpfs":
        if "size" in found:
            options.append(f"size={size(found['size'])}")
        return {"type": {"tmpfs": {}}, "source": "", "destination": found["target"], "options": options}
    if not os.path.isdir(found["source"]):
        raise Failed(f"invalidArgument: \"path '{found['source']}' is not a directory\"")
    return {
        "type": {"virtiofs": {}},
        "source": found["source"],
        "destination": found["target"],
        "options": options,
    }


def listen(port: dict[str, Any]) -> socket.socket:
    import socket

    address = port["hostAddress"]
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address, port["hostPort"]))
    except OSError:
        raise Failed('unknown: "bind(descriptor:ptr:bytes:): Address already in use (errno: 48)"') from None
    made.listen(16)
    return made


def disk(root: str, one: dict[str, Any]) -> str:
    """What a container holds, as long as it is there."""
    return os.path.join(root, one["run"] + ".disk")


def start_again(root: str, generation: str, words: list[str]) -> None:
    with world(root) as state:
        one = known(state, words[0])
        if not alive(root, one):
            for mounted in one["configuration"]["mounts"]:
                if "virtiofs" in mounted["type"] and not os.path.exists(mounted["source"]):
                    raise Failed(f"invalidArgument: \"path '{mounted['source']}' does not exist\"")
            listening = [listen(port) for port in one["configuration"]["publishedPorts"]]
            one["pid"], one["started"] = start(root, one, listening), int(time.time())
            one.pop("state", None)
        if state["knobs"].get("dies"):
            state["knobs"]["dies"] -= 1
            end(root, one)
    print(words[0])


def end(root: str, one: dict[str, Any]) -> None:
    """Kill it, and wait until it is gone."""
    os.kill(one["pid"], signal.SIGKILL)
    while alive(root, one):
        time.sleep(0.002)


def start(root: str, one: dict[str, Any], listening: list[socket.socket]) -> int:
    """The container's process, its lock held before anybody can look."""
    lock = os.open(os.path.join(root, one["run"]), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    log = os.open(os.path.join(root, one["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        kept = {lock, log, *(one.fileno() for one in listening)}
        for descriptor in set(range(3, 256)) - kept:  # the world's lock, and the caller's pipes
            with contextlib.suppress(OSError):
                os.close(descriptor)
        try:
            serve(log, listening)
        finally:
            os._exit(1)
    os.close(lock)  # only the container's process holds it from here on
    os.close(log)
    return pid


def shown(root: str, one: dict[str, Any], generation: str) -> dict[str, Any]:
    running = alive(root, one)
    word = one.get("state") or ("running" if running else "stopped")
    configuration = dict(one["configuration"])
    networks = [
        {"network": n["network"], "ipv4Address": "192.168.64.3/24"} for n in configuration["networks"]
    ]
    if generation == OLD:
        return {
            "configuration": configuration,
            "networks": networks if running else [],
            "startedDate": one["started"] - _EPOCH_2001,
            "status": word,
        }
    configuration["creationDate"] = time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(configuration["creationDate"])
    )
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one["started"]))
    status = {"state": word, "networks": networks if running else [], "startedDate": started}
    return {"id": configuration["id"], "configuration": configuration, "status": status}


def ls(root: str, generation: str, words: list[str]) -> None:
    with world(root) as state:
        items = [shown(root, one, generation) for one in state["containers"].values()]
    print(json.dumps(items))


def inspect(root: str, generation: str, words: list[str]) -> None:
    with world(root) as state:
        missing = [name for name in words if name not in state["containers"]]
        if missing and generation == NEW:
            raise Failed(f'notFound: "container not found: {", ".join(missing)}"')
        found = [shown(root, state["containers"][n], generation) for n in words if n not in missing]
    print(json.dumps(found, indent=2))


def known(state: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in state["containers"]:
        raise Failed(f'notFound: "container with ID {name} not found"')
    return state["containers"][name]


def stop(root: str, generation: str, words: list[str]) -> None:
    assert words[0] == "-t"
    with world(root) as state:
        one = known(state, words[2])
        if alive(root, one):
            end(root, one)
    print(words[2])


def delete(root: str, generation: str, words: list[str]) -> None:
    name = words[-1]
    with world(root) as state:
        one = known(state, name)
        if alive(root, one):
            if "-f" not in words:
                raise Failed(f'invalidState: "container {name} is running and can not be deleted"')
            os.kill(one["pid"], signal.SIGKILL)
        if not state["knobs"].get("keeps_deleted"):
            for below, _, files in os.walk(disk(root, one), topdown=False):
                for file in files:
                    os.unlink(os.path.join(below, file))
                os.rmdir(below)
            del state["containers"][name]
    print(name)


def logs(root: str, generation: str, words: list[str]) -> None:
    limit = int(words[words.index("-n") + 1]) if "-n" in words else None
    with world(root) as state:
        path = os.path.join(root, known(state, words[-1])["log"])
    with open(path) as file:
        text = file.read()
        lines = [line for line in text.split("\n") if line]
        for line in lines if limit is None else lines[max(0, len(lines) - limit) :]:
            print(line)
        sys.stdout.flush()
        while "--follow" in words:
            for line in file:
                print(line, end="", flush=True)
            time.sleep(0.01)


def execute(root: str, generation: str, words: list[str]) -> None:
    import subprocess

    with world(root) as state:
        one = known(state, words[0])
        if not alive(root, one):
            raise Failed(f'invalidState: "container {words[0]} is not running"')
        pairs = [entry.partition("=") for entry in one["configuration"]["initProcess"]["environment"]]
        lacking = state["knobs"].get("lacks", [])
    if words[1] in lacking:
        raise Failed(
            f'internalError: "failed to start process" (cause: "failed to find target executable {words[1]}")'
        )
    try:
        process = subprocess.Popen(
            words[1:], env={name: value for name, _, value in pairs}, cwd=disk(root, one)
        )
    except FileNotFoundError:
        raise Failed(
            f'internalError: "failed to start process" (cause: "failed to find target executable {words[1]}")'
        ) from None
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    sys.exit(process.wait())


def system(root: str, generation: str, words: list[str]) -> None:
    print("FIELD              VALUE\nstatus             running")


def main(root: str, generation: str, words: list[str]) -> None:
    with open(os.path.join(root, "calls.jsonl"), "a") as file:
        file.write(json.dumps(words) + "\n")
    if words == ["--version"]:
        print(f"container CLI version {generation}.0 (build: release, commit: fake)")
        return
    with world(root) as state:
        knobs = state["knobs"]
        down = knobs.get("system") == "stopped"
        said = (knobs.get("fail") or {}).pop(words[0], None)
        pause = (knobs.get("slow") or {}).get(words[0])
        text = (knobs.get("answer") or {}).get(words[0])
    if down and words[0] == "system":
        print("apiserver is not running and not registered with launchd")
        sys.exit(1)
    if down:
        raise Failed(
            'interrupted: "internalError: "failed to list containers" (cause: "interrupted: "XPC connection error: '
            'Connection invalid"")\nEnsure container system service has been started with `container system start`."'
        )
    if pause:
        time.sleep(pause)
    if said:
        raise Failed(said)
    if text is not None:
        print(text)
        return
    verbs = {
        "run": run,
        "start": start_again,
        "ls": ls,
        "inspect": inspect,
        "stop": stop,
        "delete": delete,
        "logs": logs,
        "exec": execute,
        "system": system,
    }
    if words[0] not in verbs:
        raise Usage(f"Unexpected argument '{words[0]}'")
    verbs[words[0]](root, generation, words[1:])


def call(root: str, generation: str, words: list[str]) -> None:
    try:
        main(root, generation, words)
    except Failed as failed:
        print(f"Error: {failed}", file=sys.stderr)
        sys.exit(failed.exit_code)
