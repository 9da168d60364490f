"""Secrets as files: readable inside for the sandbox's own user, and nowhere else; gone with the sandbox."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backends.docker import DockerBackend
from reconciler.errors import BackendError, Permanent, Unavailable
from reconciler.model.desired import Security
from reconciler.model.observed import SandboxInfo
from tests.backends.docker.conftest import Lab, a_secret
from tests.backends.docker.test_docker_failures import as_nobody, needs_root
from tests.backends.docker.wire import Wire, answer
from tests.support.docker import eventually

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]
CANARY = "canary-5f2c91d8e7"
SECRETS = {"TOKEN": a_secret(CANARY)}
FOLDER = "/run/secrets"


def inside(backend: DockerBackend, info: SandboxInfo, *command: str) -> str:
    done = backend.exec(info, command)
    return (done.stdout + done.stderr).strip()


def kept(lab: Lab) -> list[Path]:
    """Every file of a secret on this machine."""
    return sorted(path for path in lab.secrets_root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("user", "uid", "remote"),
    [
        pytest.param(None, "0", False, id="root"),
        pytest.param("0:5", "0", False, id="root with a group"),
        pytest.param("1000", "1000", False, id="a number"),
        pytest.param(None, "0", True, id="root on an engine elsewhere"),
        pytest.param("1000:1000", "1000", True, id="a number on an engine elsewhere"),
    ],
)
def test_a_file_of_its_own_user_and_nobody_elses(
    lab: Lab, tcp: Wire, user: str | None, uid: str, remote: bool
) -> None:
    backend = lab.make(tcp.url) if remote else lab.backend
    spec = lab.spec(secrets=SECRETS, security=Security(user=user, read_only_root=True))
    info = backend.create(None, lab.id(), spec=spec)
    assert inside(backend, info, "stat", "-c", "%a %u", f"{FOLDER}/TOKEN") == f"400 {uid}"
    assert inside(backend, info, "sh", "-c", "cat $TOKEN_FILE; ls /run/secrets") == f"{CANARY}TOKEN"
    if not remote:
        assert "Read-only file system" in inside(backend, info, "sh", "-c", f"echo x > {FOLDER}/other")
        for folder in (lab.secrets_root, lab.secrets_root / "docker"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert bool(kept(lab)) is not remote


def test_a_user_by_name_can_read_it_too(lab: Lab) -> None:
    """Its number is known inside the image alone; outside the directories above keep everybody out."""
    info = lab.running(secrets=SECRETS, security=Security(user="gem"))
    assert inside(lab.backend, info, "stat", "-c", "%a", f"{FOLDER}/TOKEN") == "444"
    assert inside(lab.backend, info, "cat", f"{FOLDER}/TOKEN") == CANARY


@pytest.mark.parametrize("says", ["name=rootless", "name=userns"])
def test_where_users_inside_are_others_outside_everybody_inside_may_read_it(
    lab: Lab, wire: Wire, says: str
) -> None:
    """No file can be given to a user whose number here nobody knows."""
    facts = answer(200, json.dumps({"SecurityOptions": ["name=seccomp,profile=default", says]}))
    with wire.fault(r"GET /info", answer=facts):
        info = lab.make(wire.url).create(None, lab.id(), spec=lab.spec(secrets=SECRETS))
    [file] = kept(lab)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert inside(lab.backend, info, "cat", f"{FOLDER}/TOKEN") == CANARY


@pytest.mark.parametrize("remote", [False, True], ids=["here", "elsewhere"])
def test_the_value_is_nowhere_to_be_seen(
    lab: Lab, tcp: Wire, remote: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    backend = lab.make(tcp.url) if remote else lab.backend
    with command_lines() as lines:
        info = backend.create(None, lab.id(), spec=lab.spec(secrets=SECRETS))
        assert inside(backend, info, "sh", "-c", "test -s $TOKEN_FILE && echo there") == "there"
    api = lab.stack.client.api
    layer = b"".join(api.export(info.container_id))
    told = {
        "inspect": repr(lab.raw(info)),
        "list": repr(lab.labelled(info.sandbox_id)),
        "history": repr(api.history(lab.raw(info)["Image"])),
        "volumes": repr(api.volumes()),
        "look": repr(backend.look(info.sandbox_id)) + repr(backend.observe()),
        "log": caplog.text + "".join(backend.logs(info)),
        "argv": "\n".join(lines),
        "environment": inside(backend, info, "cat", "/proc/1/environ"),
        "what the container wrote": repr(layer),
    }
    assert "httpd" in told["argv"]  # the sandbox's own processes were among those looked at
    assert len(layer) > 10_000
    assert [where for where, text in told.items() if CANARY in text] == []


@contextlib.contextmanager
def command_lines() -> Iterator[set[str]]:
    """The command lines of every process of this machine, looked at again and again."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    with contextlib.suppress(OSError):
                        seen.add((entry / "cmdline").read_bytes().decode(errors="replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_in_the_environment_only_when_asked_for(lab: Lab) -> None:
    info = lab.running(secrets={"TOKEN": a_secret(CANARY, "environment")})
    assert f"TOKEN={CANARY}" in lab.raw(info)["Config"]["Env"]
    assert kept(lab) == []


def test_kept_in_memory_without_a_word_about_where(lab: Lab, docker_engine: str) -> None:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no memory to keep files in")
    backend = lab.make(secrets_root=None)
    info = backend.create(None, lab.id(), spec=lab.spec(secrets=SECRETS))
    folder = Path("/dev/shm") / f"reconciler-{os.geteuid()}" / "docker" / info.sandbox_id
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["TOKEN"]
    backend.destroy(info)
    assert not folder.exists()


@pytest.mark.parametrize("remote", [False, True], ids=["here", "elsewhere"])
class TestTheEnd:
    def backend(self, lab: Lab, tcp: Wire, remote: bool) -> DockerBackend:
        return lab.make(tcp.url) if remote else lab.backend

    def left(self, lab: Lab, sandbox_id: str) -> list[object]:
        """Whatever is left of a sandbox."""
        folder = lab.secrets_root / "docker" / sandbox_id
        return [*lab.volumes(sandbox_id), *lab.labelled(sandbox_id), *([folder] if folder.exists() else [])]

    def test_gone_with_the_sandbox(self, lab: Lab, tcp: Wire, remote: bool) -> None:
        backend, sandbox_id = self.backend(lab, tcp, remote), lab.id()
        info = backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS))
        assert len(lab.volumes(sandbox_id)) == int(remote)
        backend.destroy(info)
        assert self.left(lab, sandbox_id) == []

    def test_gone_when_somebody_removed_the_container(self, lab: Lab, tcp: Wire, remote: bool) -> None:
        backend, sandbox_id = self.backend(lab, tcp, remote), lab.id()
        info = backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS))
        lab.stack.client.api.remove_container(info.container_id, force=True)
        backend.destroy(info)
        assert self.left(lab, sandbox_id) == []

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"image": "reconciler-test/none:1"}, id="could not be made"),
            pytest.param({"security": Security(user="nobody-here")}, id="could not be started"),
        ],
    )
    def test_nothing_is_left_of_what_was_not_made(
        self, lab: Lab, tcp: Wire, remote: bool, fields: dict[str, object]
    ) -> None:
        backend = lab.make(tcp.url if remote else None, pull="never")
        sandbox_id = lab.id()
        with pytest.raises(Permanent):
            backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS, **fields))
        assert self.left(lab, sandbox_id) == []

    def test_creating_again_takes_no_file_away(self, lab: Lab, tcp: Wire, remote: bool) -> None:
        backend, sandbox_id = self.backend(lab, tcp, remote), lab.id()
        spec = lab.spec(secrets=SECRETS)
        first = backend.create(None, sandbox_id, spec=spec)
        assert backend.create(None, sandbox_id, spec=spec) == first
        assert inside(backend, first, "cat", f"{FOLDER}/TOKEN") == CANARY
        assert len(kept(lab)) == int(not remote)  # what the second attempt wrote is gone
        assert len(lab.volumes(sandbox_id)) == int(remote)

    def test_over_a_dead_one_the_new_values_count(self, lab: Lab, tcp: Wire, remote: bool) -> None:
        backend, sandbox_id = self.backend(lab, tcp, remote), lab.id()
        both = {"TOKEN": a_secret("old-value"), "OTHER": a_secret("another")}
        info = backend.create(None, sandbox_id, spec=lab.spec(secrets=both))
        lab.stack.client.api.kill(info.container_id)
        lab.dead(info)
        again = backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS))
        assert again.container_id != info.container_id
        assert inside(backend, again, "sh", "-c", "cd /run/secrets; ls; cat TOKEN") == f"TOKEN\n{CANARY}"
        assert len(kept(lab)) + len(lab.volumes(sandbox_id)) == 1

    def test_one_whose_start_was_cut_off_gets_them_when_it_starts(
        self, lab: Lab, tcp: Wire, remote: bool
    ) -> None:
        sandbox_id, spec = lab.id(), lab.spec(secrets=SECRETS)
        backend = self.backend(lab, tcp, remote)
        cut = Wire(lab.stack.host) if remote else Wire(lab.stack.host, lab.secrets_root.parent / "c.sock")
        dying = lab.make(cut.url)
        pattern = r"PUT \S*/archive" if remote else r"POST \S*/start"
        with cut.fault(pattern, first=cut.close, swallow=True), pytest.raises(Unavailable):
            dying.create(None, sandbox_id, spec=spec)
        [made] = lab.labelled(sandbox_id)
        assert made["State"] == "created"
        info = backend.create(None, sandbox_id, spec=spec)
        assert info.container_id == made["Id"]
        assert inside(backend, info, "cat", f"{FOLDER}/TOKEN") == CANARY
        backend.destroy(info)
        assert self.left(lab, sandbox_id) == []


def test_two_that_destroy_at_once_both_succeed(lab: Lab) -> None:
    info = lab.running(secrets=SECRETS)
    errors: list[BaseException] = []

    def destroy() -> None:
        try:
            lab.make().destroy(info)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=destroy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert kept(lab) == []


def test_after_a_reboot_the_files_are_gone_and_it_is_made_anew(lab: Lab, wire: Wire) -> None:
    sandbox_id, spec = lab.id(), lab.spec(secrets=SECRETS)
    with wire.fault(r"POST \S*/start", first=wire.close, swallow=True), pytest.raises(Unavailable):
        lab.make(wire.url).create(None, sandbox_id, spec=spec)
    [made] = lab.labelled(sandbox_id)
    subprocess.run(["rm", "-r", str(lab.secrets_root)], check=True)
    info = lab.backend.create(None, sandbox_id, spec=spec)
    assert info.container_id != made["Id"]
    assert inside(lab.backend, info, "cat", f"{FOLDER}/TOKEN") == CANARY
    assert len(lab.labelled(sandbox_id)) == 1


def test_a_mount_of_the_users_own_at_that_place_is_not_ours_to_remove(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    sandbox_id = lab.id()
    mounts = [(str(tmp_path / "mine"), FOLDER, True)]
    info = lab.backend.create(None, sandbox_id, mounts, spec=lab.spec())
    lab.stack.client.api.kill(info.container_id)
    lab.dead(info)
    again = lab.backend.create(None, sandbox_id, mounts, spec=lab.spec())
    lab.backend.destroy(again)
    assert (tmp_path / "mine" / "file").read_text() == "keep"


def test_a_directory_of_somebody_else_is_not_written_to(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    lab.secrets_root.symlink_to(tmp_path / "elsewhere")
    sandbox_id = lab.id()
    with pytest.raises(Permanent, match="is not this user's directory") as raised:
        lab.backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS))
    assert "no secret is written there" in raised.value.hint
    assert list((tmp_path / "elsewhere").rglob("*")) == []
    assert lab.labelled(sandbox_id) == []


@needs_root
def test_no_room_for_them_is_told(lab: Lab, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True)
    try:
        sandbox_id, big = lab.id(), {"TOKEN": a_secret("x" * 100_000)}
        with pytest.raises(Permanent, match="No space left on device") as raised:
            lab.make(secrets_root=str(small)).create(None, sandbox_id, spec=lab.spec(secrets=big))
        assert "secrets_root:" in raised.value.hint
        assert [path for path in small.rglob("*") if path.is_file()] == []
        assert lab.labelled(sandbox_id) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_root
def test_without_root_they_are_readable_inside_and_kept_from_others_outside(lab: Lab, short: Path) -> None:
    """Files cannot be given to another user then: everybody may read them, behind a door that is ours alone."""
    sandbox_id = lab.id()
    home = short / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    with contextlib.closing(Wire(lab.stack.host, short / "open.sock")) as wire:
        (short / "open.sock").chmod(0o666)
        told = as_nobody(
            """
            url, image, root, sandbox_id, stack = sys.argv[1:]
            backend = DockerBackend(url, image=image, secrets_root=root, stop_timeout=1)
            ref = SecretRef(source="x", kind="env", target=("X",), digest="d" * 32, value=Secret("canary"))
            owner = Owner(stack=stack, lineage="l", address=Address("a"), generation=1, spec_hash="0" * 32)
            info = backend.create(None, sandbox_id, spec=SandboxSpec(secrets={"TOKEN": ref}, owner=owner))
            print(backend.exec(info, ["sh", "-c", "stat -c '%a %u' $TOKEN_FILE; cat $TOKEN_FILE"]).stdout)
            for folder, _, files in sorted(os.walk(root)):
                print(oct(os.stat(folder).st_mode & 0o777), len(files))
            backend.destroy(info)
            print(sorted(os.listdir(root + "/docker")))
            backend.close()
            """,
            wire.url, lab.stack.images.agent, str(home / "kept"), sandbox_id, lab.stack.name,
        )  # fmt: skip
    lines = told.split("\n")
    assert lines[:2] == ["444 65534", "canary"]
    assert lines[2:6] == ["0o700 0", "0o700 0", "0o700 0", "0o555 1"]
    assert lines[6] == "[]"


@needs_root
def test_an_engine_that_does_not_see_this_machines_files_gets_a_volume(lab: Lab, tmp_path: Path) -> None:
    """As for a process that is in a container itself and has the engine's socket mounted."""
    hidden, sandbox_id = tmp_path / "hidden", lab.id()
    hidden.mkdir()
    script = f"""
import sys
from reconciler.backends.docker import DockerBackend
from reconciler.model.desired import *
backend = DockerBackend({lab.stack.host!r}, image={lab.stack.images.agent!r}, secrets_root={str(hidden / "kept")!r}, stop_timeout=1)
ref = SecretRef(source="x", kind="env", target=("X",), digest="d" * 32, value=Secret({CANARY!r}))
owner = Owner(stack={lab.stack.name!r}, lineage="l", address=Address("a"), generation=1, spec_hash="0" * 32)
info = backend.create(None, {sandbox_id!r}, spec=SandboxSpec(secrets={{"TOKEN": ref}}, owner=owner))
print(backend.exec(info, ["cat", "/run/secrets/TOKEN"]).stdout)
backend.close()
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(hidden), sys.executable, "-c", script],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{CANARY}\n", done.stderr
    [volume] = lab.volumes(sandbox_id)
    assert volume.startswith(f"reconciler-secrets-{sandbox_id}-")
    lab.backend.destroy(SandboxInfo(sandbox_id, ""))  # by another process, which sees the files
    assert lab.volumes(sandbox_id) == lab.labelled(sandbox_id) == []


def test_a_volume_that_is_not_ours_stays(lab: Lab, tcp: Wire) -> None:
    backend, sandbox_id = lab.make(tcp.url), lab.id()
    info = backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS))
    stranger = lab.stack.volume("stranger")
    backend.destroy(info)
    assert lab.stack.client.volumes.get(stranger).name == stranger


def test_a_volume_that_stays_is_told(lab: Lab, tcp: Wire) -> None:
    backend, sandbox_id = lab.make(tcp.url), lab.id()
    info = backend.create(None, sandbox_id, spec=lab.spec(secrets=SECRETS))
    [volume] = lab.volumes(sandbox_id)
    holder = lab.stack.stranger(f"{lab.stack.name}-holder", volumes={volume: {"bind": "/v", "mode": "ro"}})
    with pytest.raises(BackendError, match=f"the secrets in volume {volume} stay") as raised:
        backend.destroy(info)
    assert f"volume={volume}" in raised.value.hint
    lab.stack.client.api.remove_container(holder, force=True)
    eventually(lambda: not lab.stack.exists(holder))
    backend.destroy(info)
    assert lab.volumes(sandbox_id) == []
