"""The matrix: one row for every way in which one field of a docker sandbox can change. Data, and how to see it.

A row's YAML is what stands under the sandbox's name. `<word>` in it, and in what is expected, stands for something
that only the run knows: an image, a free port, a folder (`Matrix.names` in `test_docker_fields`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from textwrap import dedent
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.model.plan import Action

Json = Mapping[str, Any]


class Live(Struct, frozen=True, kw_only=True):
    """A container as the engine shows it, and a way to run something inside: the output, or "" when that fails."""

    item: Json
    run: Callable[..., str]


View = Callable[[Live], object]


class Row(Struct, frozen=True, kw_only=True):
    """`says` is the test's name. `changes` are the paths that the plan must name, each with the text that stands at
    the place it points to in the file. `live` is what `view` shows of the container before and after. With action None
    the plan must not speak of the sandbox at all. `unread` are fields that a look need not show as declared."""

    says: str
    before: str
    after: str
    action: Action | None
    changes: Mapping[str, str] = field(default_factory=dict)
    view: View
    live: tuple[object, object]
    unread: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sandbox's name: what the row says, as far as a name goes."""
        return re.sub(r"[^a-z0-9]+", "-", self.says.lower())[:38].strip("-")


def _replaces(
    says: str, before: str, after: str, changes: Mapping[str, str], view: View, was: object, becomes: object
) -> Row:
    return Row(says=says, before=dedent(before).strip(), after=dedent(after).strip(), action=Action.REPLACE,
               changes=changes, view=view, live=(was, becomes))  # fmt: skip


def _updates(
    says: str, before: str, after: str, changes: Mapping[str, str], view: View, was: object, becomes: object
) -> Row:
    return Row(says=says, before=before, after=after, action=Action.UPDATE, changes=changes, view=view,
               live=(was, becomes))  # fmt: skip


def _without(row: Row, *unread: str) -> Row:
    return replace(row, unread=unread)


def _nothing(says: str, before: str, after: str, view: View | None = None, shows: object = None) -> Row:
    """The object stays the very same one; `view` must show the same before and after."""
    return Row(says=says, before=before, after=after, action=None, view=view or (lambda _: None),
               live=(shows, shows))  # fmt: skip


# -- what the engine shows


def _config(key: str) -> View:
    return lambda live: live.item["Config"][key]


def _host(*keys: str) -> View:
    def view(live: Live) -> object:
        found = [live.item["HostConfig"].get(key) for key in keys]
        return found[0] if len(found) == 1 else found

    return view


def _variable(name: str) -> View:
    """All values of it: a variable that is there twice shows."""

    def view(live: Live) -> object:
        pairs = (entry.partition("=") for entry in live.item["Config"]["Env"])
        return [value for key, _, value in pairs if key == name]

    return view


def _label(name: str) -> View:
    return lambda live: live.item["Config"]["Labels"].get(name)


def _image(live: Live) -> object:
    """What it was asked for, and the version that answers."""
    answer = live.run("cat", "/www/v1/sandbox")
    return [live.item["Config"]["Image"], json.loads(answer)["version"]]


def _bound(port: int, *, chosen: bool = False) -> View:
    """The addresses and ports of the host that lead there; a port that the engine chose is "chosen"."""

    def view(live: Live) -> object:
        bound = live.item["NetworkSettings"]["Ports"].get(f"{port}/tcp") or []
        return [(entry["HostIp"], "chosen" if chosen else entry["HostPort"]) for entry in bound]

    return view


def _addresses(port: int) -> View:
    """The addresses of the host that lead there, but for the newer family's "any"."""

    def view(live: Live) -> object:
        bound = live.item["NetworkSettings"]["Ports"].get(f"{port}/tcp") or []
        return sorted(entry["HostIp"] for entry in bound if entry["HostIp"] != "::")

    return view


def _both(*views: View) -> View:
    return lambda live: [view(live) for view in views]


def _mount(target: str) -> View:
    """Kind, source and whether it can be written to, as the kernel has it inside."""

    def view(live: Live) -> object:
        for mount in live.item["Mounts"]:
            if mount["Destination"] == target:
                return [
                    mount["Type"],
                    mount.get("Name") or mount["Source"],
                    mount["RW"],
                    _writes(live, target),
                ]
        return None

    return view


def _writes(live: Live, folder: str) -> bool:
    return live.run("sh", "-c", f"touch {folder}/.probe 2>/dev/null && echo yes || echo no") == "yes"


def _tmpfs(target: str) -> View:
    """Its size in KiB inside; None when there is none."""

    def view(live: Live) -> object:
        lines = live.run("df", "-k", target).splitlines()
        found = [line.split() for line in lines if line.endswith(f" {target}")]
        return int(found[0][1]) if found else None

    return view


def _secret(name: str) -> View:
    """What a program inside gets, and that an inspection does not show it."""

    def view(live: Live) -> object:
        value = live.run("sh", "-c", f'cat "${name}_FILE"')
        return [value, bool(value) and value in json.dumps(live.item)]

    return view


def _networks(live: Live) -> object:
    return sorted(live.item["NetworkSettings"]["Networks"])


def _security(live: Live) -> object:
    """The options, a seccomp profile as what it refuses."""
    options = [str(option) for option in live.item["HostConfig"]["SecurityOpt"] or ()]
    return [_profile(option) if option.startswith("seccomp={") else option for option in options]


def _profile(option: str) -> str:
    profile = json.loads(option.removeprefix("seccomp="))
    return "refuses " + ", ".join(name for rule in profile["syscalls"] for name in rule["names"])


def _status(key: str) -> View:
    """A line of the kernel's /proc/self/status of a program inside."""

    def view(live: Live) -> object:
        lines = live.run("cat", "/proc/self/status").splitlines()
        return next((line.split()[1] for line in lines if line.startswith(f"{key}:")), None)

    return view


def _first(live: Live) -> object:
    """The program that is process 1."""
    return live.run("cat", "/proc/1/comm")


_MI = 1024 * 1024
_NOW = 'readiness: {exec: ["true"]}'  # for those without a way in
_STAYS = _config("Hostname")  # the engine takes it from the id: the same means the same container
SERVE = "exec httpd -f -p 8080 -h /www"

ROWS: tuple[Row, ...] = (
    # -- what runs
    _replaces("image: another tag", "image: <agent>", "image: <other>", {"image": "<other>"}, _image,
              ["<agent>", "1"], ["<other>", "2"]),
    _replaces("image: another digest", "image: <agent by digest>", "image: <other by digest>",
              {"image": "<other by digest>"}, _image, ["<agent by digest>", "1"], ["<other by digest>", "2"]),
    _replaces("image: from a tag to its digest", "image: <agent>", "image: <agent by digest>",
              {"image": "<agent by digest>"}, _image, ["<agent>", "1"], ["<agent by digest>", "1"]),
    _replaces("command: added", "", f"command: [sh, -c, {SERVE}]", {"command": "[sh, -c"}, _config("Cmd"),
              ["serve"], ["sh", "-c", SERVE]),
    _replaces("command: changed", "command: [deaf]", "command: [serve]", {"command": "[serve]"}, _config("Cmd"),
              ["deaf"], ["serve"]),
    _replaces("command: removed", f"command: [sh, -c, {SERVE}]", "", {"command": "<self>"}, _config("Cmd"),
              ["sh", "-c", SERVE], ["serve"]),
    _replaces("entrypoint: added", "", "entrypoint: [/entrypoint, serve]", {"entrypoint": "[/entrypoint"},
              _both(_config("Entrypoint"), _config("Cmd")), [["/entrypoint"], ["serve"]],
              [["/entrypoint", "serve"], None]),
    _replaces("entrypoint: changed", f"entrypoint: [sh, -c, {SERVE}]", "entrypoint: [/entrypoint, serve]",
              {"entrypoint": "[/entrypoint"}, _config("Entrypoint"), ["sh", "-c", SERVE], ["/entrypoint", "serve"]),
    _replaces("entrypoint: removed", f"entrypoint: [sh, -c, {SERVE}]", "", {"entrypoint": "<self>"},
              _config("Entrypoint"), ["sh", "-c", SERVE], ["/entrypoint"]),
    # -- what it is told
    _replaces("environment: added", "", "environment: {LEVEL: info}", {"environment.LEVEL": "info"},
              _variable("LEVEL"), [], ["info"]),
    _replaces("environment: changed", "environment: {LEVEL: info, OTHER: x}", "environment: {LEVEL: debug, OTHER: x}",
              {"environment.LEVEL": "debug"}, _variable("LEVEL"), ["info"], ["debug"]),
    _replaces("environment: removed", "environment: {LEVEL: info, OTHER: x}", "environment: {OTHER: x}",
              {"environment.LEVEL": "{OTHER"}, _variable("LEVEL"), ["info"], []),
    _replaces("environment: the image's own overridden", "", "environment: {IMAGE_MARKER: mine}",
              {"environment.IMAGE_MARKER": "mine"}, _variable("IMAGE_MARKER"), ["1"], ["mine"]),
    _replaces("environment: the image's own back again", "environment: {IMAGE_MARKER: mine}", "",
              {"environment.IMAGE_MARKER": "<self>"}, _variable("IMAGE_MARKER"), ["mine"], ["1"]),
    _replaces("environment: awkward text", "environment: {TEXT: ''}", 'environment: {TEXT: "a=b \\"c\\"\\n$$HOME \\u00e9"}',
              {"environment.TEXT": '"a=b'}, _variable("TEXT"), [""], ['a=b "c"\n$$HOME é']),
    _nothing("environment: what the image says anyway", "", "environment: {IMAGE_MARKER: '1'}",
             _both(_STAYS, _variable("IMAGE_MARKER")), ["<same>", ["1"]]),
    _without(
        _replaces("environment: another's id", "environment: {PEER: '${sandbox.image-another-tag.id}'}",
                  "environment: {PEER: '${sandbox.image-another-tag.id}'}", {"environment.PEER": "'${sandbox"},
                  _variable("PEER"), ["<id of image-another-tag before>"], ["<id of image-another-tag after>"]),
        "environment.PEER",
    ),
    _replaces("secrets: added", "", "secrets: {TOKEN: {env: FIRST}}", {"secrets.TOKEN": "{env"}, _secret("TOKEN"),
              ["", False], ["<first>", False]),
    _replaces("secrets: another value", "secrets: {TOKEN: {env: MOVING}}", "secrets: {TOKEN: {env: MOVING}}",
              {"secrets.TOKEN": "{env"}, _secret("TOKEN"), ["<first>", False], ["<second>", False]),
    _replaces("secrets: from a file", "secrets: {TOKEN: {file: token.txt}}", "secrets: {TOKEN: {env: FIRST}}",
              {"secrets.TOKEN": "{env"}, _secret("TOKEN"), ["token of a file", False], ["<first>", False]),
    _nothing("secrets: the same from elsewhere", "secrets: {TOKEN: {env: FIRST}}",
             "secrets: {TOKEN: {command: [printf, '%s', <first>]}}", _secret("TOKEN"), ["<first>", False]),
    _nothing("secrets: from a variable", "secrets: {TOKEN: {env: FIRST}}", 'secrets: {TOKEN: {value: "${var.first}"}}',
             _secret("TOKEN"), ["<first>", False]),
    _replaces("secrets: removed", "secrets: {TOKEN: {env: FIRST}}", "", {"secrets.TOKEN": "<self>"},
              _both(_secret("TOKEN"), _variable("TOKEN_FILE")), [["<first>", False], ["/run/secrets/TOKEN"]],
              [["", False], []]),
    _replaces("secrets: into the environment", "secrets: {TOKEN: {env: FIRST}}",
              "secrets: {TOKEN: {env: FIRST, as: environment}}", {"secrets.TOKEN.as": "environment"},
              _both(_variable("TOKEN"), _variable("TOKEN_FILE")), [[], ["/run/secrets/TOKEN"]], [["<first>"], []]),
    # -- ways in
    _replaces("ports: added", "", "ports: [{name: debug, container: 9000}]",
              {"ports.debug.container": "9000", "ports.debug.host": "{name", "ports.debug.bind": "{name"},
              _both(_bound(9000, chosen=True), _bound(8080, chosen=True)),
              [[], [("127.0.0.1", "chosen")]], [[("127.0.0.1", "chosen")], [("127.0.0.1", "chosen")]]),
    _replaces("ports: another container port", "ports: [{name: debug, container: 9000}]",
              "ports: [{name: debug, container: 9001}]", {"ports.debug.container": "9001"},
              _both(_bound(9000, chosen=True), _bound(9001, chosen=True)), [[("127.0.0.1", "chosen")], []],
              [[], [("127.0.0.1", "chosen")]]),
    _replaces("ports: a fixed host port", "ports: [{name: http, container: 8080}]",
              "ports: [{name: http, container: 8080, host: <port 1>}]", {"ports.http.host": "<port 1>"},
              _both(_bound(8080), _host("PublishAllPorts")), ["<any>", False],
              [[("127.0.0.1", "<port 1>")], False]),
    _replaces("ports: another fixed host port", "ports: [{name: debug, container: 9000, host: <port 2>}]",
              "ports: [{name: debug, container: 9000, host: <port 3>}]", {"ports.debug.host": "<port 3>"},
              _bound(9000), [("127.0.0.1", "<port 2>")], [("127.0.0.1", "<port 3>")]),
    _replaces("ports: any host port again", "ports: [{name: debug, container: 9000, host: <port 4>}]",
              "ports: [{name: debug, container: 9000, host: auto}]", {"ports.debug.host": "auto"},
              _both(_bound(9000, chosen=True), lambda live: _host("PortBindings")(live)["9000/tcp"][0]["HostPort"]),  # type: ignore[index]
              [[("127.0.0.1", "chosen")], "<port 4>"], [[("127.0.0.1", "chosen")], "0"]),
    _replaces("ports: another bind address", "ports: [{name: debug, container: 9000, bind: 127.0.0.2}]",
              "ports: [{name: debug, container: 9000, bind: 127.0.0.1}]", {"ports.debug.bind": "127.0.0.1"},
              _bound(9000, chosen=True), [("127.0.0.2", "chosen")], [("127.0.0.1", "chosen")]),
    _replaces("ports: removed", "ports: [{name: debug, container: 9000}]", "",
              dict.fromkeys(("ports.debug.container", "ports.debug.host", "ports.debug.bind"), "<self>"),
              _bound(9000, chosen=True), [("127.0.0.1", "chosen")], []),
    _replaces("ports: a second name for one container port", "ports: [{name: one, container: 9000, host: <port 5>}]",
              "ports: [{name: one, container: 9000, host: <port 5>}, {name: two, container: 9000, bind: 127.0.0.2}]",
              {"ports.two.container": "9000", "ports.two.host": "{name: two", "ports.two.bind": "127.0.0.2"},
              _addresses(9000), ["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]),
    _replaces("ports: on every address", "ports: [{name: debug, container: 9000}]",
              "ports: [{name: debug, container: 9000, bind: 0.0.0.0}]", {"ports.debug.bind": "0.0.0.0"},
              _addresses(9000), ["127.0.0.1"], ["0.0.0.0"]),
    # -- what it gets to see
    _replaces("mounts: added", "", "mounts: [{source: one, target: /mnt/data}]",
              {"mounts./mnt/data.source": "one", "mounts./mnt/data.read_only": "{source"}, _mount("/mnt/data"),
              None, ["bind", "<folder>/one", True, True]),
    _replaces("mounts: another source", "mounts: [{source: one, target: /mnt/data}]",
              "mounts: [{source: two, target: /mnt/data}]", {"mounts./mnt/data.source": "two"}, _mount("/mnt/data"),
              ["bind", "<folder>/one", True, True], ["bind", "<folder>/two", True, True]),
    _replaces("mounts: another target", "mounts: [{source: one, target: /mnt/data}]",
              "mounts: [{source: one, target: /mnt/d.other}]",
              {"mounts./mnt/data.source": "[{source", "mounts./mnt/data.read_only": "[{source",
               "mounts./mnt/d.other.source": "one", "mounts./mnt/d.other.read_only": "{source"},
              _both(_mount("/mnt/data"), _mount("/mnt/d.other")), [["bind", "<folder>/one", True, True], None],
              [None, ["bind", "<folder>/one", True, True]]),
    _replaces("mounts: read-only", "mounts: [{source: one, target: /mnt/data}]",
              "mounts: [{source: one, target: /mnt/data, read_only: true}]", {"mounts./mnt/data.read_only": "true"},
              _mount("/mnt/data"), ["bind", "<folder>/one", True, True], ["bind", "<folder>/one", False, False]),
    _replaces("mounts: removed", "mounts: [{source: one, target: /mnt/data}]", "",
              {"mounts./mnt/data.source": "<self>", "mounts./mnt/data.read_only": "<self>"}, _mount("/mnt/data"),
              ["bind", "<folder>/one", True, True], None),
    _replaces("mounts: a volume instead of a folder", "mounts: [{source: one, target: /mnt/data}]",
              "mounts: [{type: volume, source: <volume 1>, target: /mnt/data}]",
              {"mounts./mnt/data.source": "<volume 1>", "mounts./mnt/data.type": "volume"}, _mount("/mnt/data"),
              ["bind", "<folder>/one", True, True], ["volume", "<volume 1>", True, True]),
    _replaces("mounts: another volume", "mounts: [{type: volume, source: <volume 1>, target: /mnt/data}]",
              "mounts: [{type: volume, source: <volume 2>, target: /mnt/data}]",
              {"mounts./mnt/data.source": "<volume 2>"}, _mount("/mnt/data"), ["volume", "<volume 1>", True, True],
              ["volume", "<volume 2>", True, True]),
    _replaces("mounts: a tmpfs added", "", "mounts: [{type: tmpfs, target: /mnt/data}]",
              {"mounts./mnt/data.type": "tmpfs", "mounts./mnt/data.read_only": "{type"}, _mount("/mnt/data"), None,
              ["tmpfs", "", True, True]),
    _replaces("mounts: a tmpfs that is read-only", "mounts: [{type: tmpfs, target: /mnt/data}]",
              "mounts: [{type: tmpfs, target: /mnt/data, read_only: true}]", {"mounts./mnt/data.read_only": "true"},
              _mount("/mnt/data"), ["tmpfs", "", True, True], ["tmpfs", "", False, False]),
    _replaces("mounts: a tmpfs gets a size", "mounts: [{type: tmpfs, target: /mnt/data, size: 1Mi}]",
              "mounts: [{type: tmpfs, target: /mnt/data, size: 2Mi}]", {"mounts./mnt/data.size": "2Mi"},
              _tmpfs("/mnt/data"), 1024, 2048),
    _replaces("mounts: a tmpfs loses its size", "mounts: [{type: tmpfs, target: /mnt/data, size: 1Mi}]",
              "mounts: [{type: tmpfs, target: /mnt/data}]", {"mounts./mnt/data.size": "{type"},
              lambda live: _tmpfs("/mnt/data")(live) == 1024, True, False),
    # -- how much it may take
    _updates("resources: cpu added", "", "resources: {cpu: 0.5}", {"resources.cpu": "0.5"}, _host("NanoCpus"), 0,
             500_000_000),
    _updates("resources: cpu changed", "resources: {cpu: 500m}", "resources: {cpu: 0.25}", {"resources.cpu": "0.25"},
             _host("NanoCpus"), 500_000_000, 250_000_000),
    _updates("resources: cpu removed", "resources: {cpu: 0.5}", "", {"resources.cpu": "<self>"}, _host("NanoCpus"),
             500_000_000, "<all cpu>"),
    _updates("resources: memory added", "", "resources: {memory: 64Mi}", {"resources.memory": "64Mi"},
             _host("Memory", "MemorySwap"), [0, 0], [64 * _MI, 64 * _MI]),
    _updates("resources: memory raised", "resources: {memory: 64Mi}", "resources: {memory: 128Mi}",
             {"resources.memory": "128Mi"}, _host("Memory", "MemorySwap"), [64 * _MI, 64 * _MI], [128 * _MI, 128 * _MI]),
    _updates("resources: memory lowered", "resources: {memory: 128Mi}", "resources: {memory: 64Mi}",
             {"resources.memory": "64Mi"}, _host("Memory", "MemorySwap"), [128 * _MI, 128 * _MI], [64 * _MI, 64 * _MI]),
    _updates("resources: memory removed", "resources: {memory: 64Mi}", "", {"resources.memory": "<self>"},
             _host("Memory"), 64 * _MI, "<all memory>"),
    _updates("resources: pids added", "", "resources: {pids: 64}", {"resources.pids": "64"}, _host("PidsLimit"), 4096,
             64),
    _updates("resources: pids changed", "resources: {pids: 64}", "resources: {pids: 128}", {"resources.pids": "128"},
             _host("PidsLimit"), 64, 128),
    _updates("resources: pids removed", "resources: {pids: 64}", "", {"resources.pids": "<self>"}, _host("PidsLimit"),
             64, 4096),
    _replaces("resources: shm added", "", "resources: {shm: 8Mi}", {"resources.shm": "8Mi"}, _tmpfs("/dev/shm"),
              64 * 1024, 8 * 1024),
    _replaces("resources: shm changed", "resources: {shm: 8Mi}", "resources: {shm: 16Mi}", {"resources.shm": "16Mi"},
              _tmpfs("/dev/shm"), 8 * 1024, 16 * 1024),
    _replaces("resources: shm removed", "resources: {shm: 8Mi}", "", {"resources.shm": "<self>"}, _tmpfs("/dev/shm"),
              8 * 1024, 64 * 1024),
    # -- what it can reach
    _replaces("network: isolated", f"network: {{mode: open}}\n{_NOW}", f"network: {{mode: isolated}}\n{_NOW}",
              {"network.mode": "isolated"}, _both(_networks, _bound(8080, chosen=True)),
              [["bridge"], [("127.0.0.1", "chosen")]], [["none"], []]),
    _replaces("network: open", f"network: {{mode: isolated}}\n{_NOW}", "network: {mode: open}",
              {"network.mode": "open"}, _networks, ["none"], ["bridge"]),
    _replaces("network: isolated no more", f"network: {{mode: isolated}}\n{_NOW}", "", {"network.mode": "<self>"},
              _networks, ["none"], ["bridge"]),
    _nothing("network: open, as it is anyway", "", "network: {mode: open}", _both(_STAYS, _networks),
             ["<same>", ["bridge"]]),
    _replaces("network: named", "network: {mode: open}", "network: {name: <network 1>}",
              {"network.name": "<network 1>"}, _networks,
              ["bridge"], ["<network 1>"]),
    _nothing("network: named as it is anyway", "network: {mode: open}", "network: {name: bridge}",
             _both(_STAYS, _networks), ["<same>", ["bridge"]]),
    _replaces("network: named otherwise", "network: {name: <network 1>}", "network: {name: <network 2>}",
              {"network.name": "<network 2>"}, _networks, ["<network 1>"], ["<network 2>"]),
    _replaces("network: named no more", "network: {name: <network 1>}", "network: {mode: open}",
              {"network.name": "{mode"}, _networks, ["<network 1>"], ["bridge"]),
    _without(
        _replaces("unsupported: goes without an allowlist",
                  "network: {mode: allowlist, allow: [10.0.0.0/8]}\nunsupported: warn",
                  "network: {mode: allowlist, allow: [10.0.0.0/9]}\nunsupported: warn",
                  {"network.allow": "[10.0.0.0/9]"}, _networks, ["bridge"], ["bridge"]),
        "network.mode", "network.allow",
    ),
    # -- what it may do
    _replaces("security: read-only root", "", "security: {read_only_root: true}", {"security.read_only_root": "true"},
              _both(_host("ReadonlyRootfs"), lambda live: _writes(live, "/home/gem")), [False, True], [True, False]),
    _replaces("security: writable root", "security: {read_only_root: true}", "security: {read_only_root: false}",
              {"security.read_only_root": "false"}, _host("ReadonlyRootfs"), True, False),
    _replaces("security: fewer dropped capabilities", "security: {cap_drop: [ALL]}",
              "security: {cap_drop: [NET_RAW, SYS_CHROOT]}", {"security.cap_drop": "[NET_RAW"},
              _both(_host("CapDrop"), _status("CapEff")), [["ALL"], "0000000000000000"],
              [["NET_RAW", "SYS_CHROOT"], "00000000a80005fb"]),
    _nothing("security: all dropped, as it is anyway", "", "security: {cap_drop: [ALL]}",
             _both(_STAYS, _host("CapDrop")), ["<same>", ["ALL"]]),
    _nothing("security: capabilities by another spelling", "security: {cap_drop: [NET_RAW, CHOWN]}",
             "security: {cap_drop: [CAP_CHOWN, net_raw, NET_RAW]}", _STAYS, "<same>"),
    _replaces("security: a capability added", "", "security: {cap_add: [NET_BIND_SERVICE]}",
              {"security.cap_add": "[NET_BIND"}, _both(_host("CapAdd"), _status("CapEff")),
              [[], "0000000000000000"], [["NET_BIND_SERVICE"], "0000000000000400"]),
    _replaces("security: a capability taken back", "security: {cap_add: [CHOWN, NET_BIND_SERVICE]}",
              "security: {cap_add: [NET_BIND_SERVICE]}", {"security.cap_add": "[NET_BIND"}, _status("CapEff"),
              "0000000000000401", "0000000000000400"),
    _replaces("security: new privileges", "", "security: {no_new_privileges: false}",
              {"security.no_new_privileges": "false"}, _both(_security, _status("NoNewPrivs")),
              [["no-new-privileges"], "1"], [[], "0"]),
    _nothing("security: no new privileges, as it is anyway", "", "security: {no_new_privileges: true}", _STAYS,
             "<same>"),
    _replaces("security: without seccomp", "", "security: {seccomp: unconfined}", {"security.seccomp": "unconfined"},
              _both(_security, _status("Seccomp")), [["no-new-privileges"], "2"],
              [["no-new-privileges", "seccomp=unconfined"], "0"]),
    _replaces("security: a profile of one's own", "security: {seccomp: unconfined}",
              "security: {seccomp: profile.json}", {"security.seccomp": "profile.json"},
              _both(_security, lambda live: live.run("sh", "-c", "mkdir /tmp/x && echo made")),
              [["no-new-privileges", "seccomp=unconfined"], "made"], [["no-new-privileges", "refuses mkdir, mkdirat"], ""]),
    _replaces("security: another text of the same profile", "security: {seccomp: moving.json}",
              "security: {seccomp: moving.json}", {"security.seccomp": "moving.json"}, _security,
              ["no-new-privileges", "refuses rmdir"], ["no-new-privileges", "refuses chown"]),
    _replaces("security: another user", "secrets: {TOKEN: {env: FIRST}}",
              "secrets: {TOKEN: {env: FIRST}}\nsecurity: {user: 1000}", {"security.user": "1000"},
              _both(_config("User"), lambda live: live.run("id", "-u"), _secret("TOKEN")),
              ["", "0", ["<first>", False]], ["1000", "1000", ["<first>", False]]),
    _replaces("security: the image's user again", "security: {user: gem}", "", {"security.user": "<self>"},
              _config("User"), "gem", ""),
    _replaces("security: no init", "", "security: {init: false}", {"security.init": "false"},
              _both(_host("Init"), _first), [True, "docker-init"], [False, "entrypoint"]),
    _replaces("security: init again", "security: {init: false}", "security: {init: true}", {"security.init": "true"},
              _host("Init"), False, True),
    _nothing("runtime: by its name, as it is anyway", "", "runtime: runc", _both(_STAYS, _host("Runtime")),
             ["<same>", "runc"]),
    _replaces("runtime: not named any more", "runtime: runc", "", {"runtime": "<self>"}, _host("Runtime"), "runc",
              "runc"),
    # -- how it goes on
    _updates("restart: added", "", "restart: always", {"restart": "always"}, _host("RestartPolicy"),
             {"Name": "no", "MaximumRetryCount": 0}, {"Name": "always", "MaximumRetryCount": 0}),
    _updates("restart: changed", "restart: on-failure:3", "restart: on-failure:5", {"restart": "on-failure:5"},
             _host("RestartPolicy"), {"Name": "on-failure", "MaximumRetryCount": 3},
             {"Name": "on-failure", "MaximumRetryCount": 5}),
    _updates("restart: removed", "restart: unless-stopped", "", {"restart": "<self>"}, _host("RestartPolicy"),
             {"Name": "unless-stopped", "MaximumRetryCount": 0}, {"Name": "no", "MaximumRetryCount": 0}),
    _nothing("restart: no, as it is anyway", "", "restart: no", _STAYS, "<same>"),
    _replaces("thread_id: added", "", "thread_id: t-1", {"thread_id": "t-1"}, _label("sandbox-reconciler/thread-id"),
              None, "t-1"),
    _replaces("thread_id: changed", "thread_id: t-1", "thread_id: t-2", {"thread_id": "t-2"},
              _label("sandbox-reconciler/thread-id"), "t-1", "t-2"),
    _replaces("thread_id: removed", "thread_id: t-1", "thread_id: null", {"thread_id": "null"},
              _label("sandbox-reconciler/thread-id"), "t-1", None),
    _replaces("labels: added", "", "labels: {team: search}", {"labels.team": "search"}, _label("team"), None, "search"),
    _replaces("labels: changed", "labels: {team: search, org: x}", "labels: {team: index, org: x}",
              {"labels.team": "index"}, _label("team"), "search", "index"),
    _replaces("labels: removed", "labels: {team: search}", "", {"labels.team": "<self>"}, _label("team"), "search",
              None),
    # -- ours alone: nothing of it is on the object
    _nothing("readiness: another way to tell", "readiness: {http: /v1/sandbox, port: http, expect: 200}",
             'readiness: {exec: ["true"], successes: 2, interval: 50ms, timeout: 30s}', _STAYS, "<same>"),
    _nothing("readiness: by a connection", "readiness: none", "readiness: {tcp: 8080}", _STAYS, "<same>"),
    _nothing("lifecycle: the other order", "lifecycle: {replace: destroy_first}", "lifecycle: {replace: create_first}",
             _STAYS, "<same>"),
    _nothing("depends_on: added", "", "depends_on: [restart-no-as-it-is-anyway]", _STAYS, "<same>"),
    _nothing("unsupported: where all is supported", "unsupported: error", "unsupported: warn", _STAYS, "<same>"),
)  # fmt: skip
