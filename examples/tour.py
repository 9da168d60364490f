"""A tour of `reconciler` in a temporary folder: every stage really runs, is checked, and shows its real output.

Needs the standard library and the installed `reconciler` command alone. Touches nothing outside its folder, leaves
nothing behind, and ends with exit code 1 and what was expected as soon as something is not as it should be.

    python examples/tour.py
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FIRST = """\
version: 1
stack: tour

defaults:
  environment: {LOG_LEVEL: info}

sandboxes:
  researcher:
    replicas: 2
    environment: {INDEX: "${replica.index}"}
  reviewer:
    depends_on: [researcher]

outputs:
  reviewer_url: "${sandbox.reviewer.url}"
"""
# A label changes in place; an environment variable is fixed when a process starts, so that one is replaced.
SECOND = FIRST.replace("    replicas: 2\n", "    replicas: 2\n    labels: {team: search}\n").replace(
    "    depends_on: [researcher]\n", "    depends_on: [researcher]\n    environment: {LOG_LEVEL: debug}\n"
)
ADDRESSES = ("researcher[0]", "researcher[1]", "reviewer")


class NotAsExpected(Exception):
    """What should have been, and what was."""


class Tour:
    """One walk through. `home` is the temporary folder; `shown` collects what the summary says."""

    def __init__(self, command: str, home: Path) -> None:
        self.command = command
        self.project = home / "project"
        self.sandboxes = home / "xdg" / "reconciler" / "process"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RECONCILER_")}
        self.environment |= {"XDG_STATE_HOME": str(home / "xdg"), "XDG_CACHE_HOME": str(home / "cache")}
        self.environment |= {"PYTHONUNBUFFERED": "1"}
        self.shown: list[str] = []
        self.processes: set[int] = set()

    # -- the stages

    def start(self) -> None:
        """A starter file from `init`, then three sandboxes instead of its own."""
        self.run("init", str(self.project), at=self.project.parent)
        file = self.project / "sandboxes.yaml"
        expect(file.is_file(), f"`init` writes {file.name}")
        file.write_text(FIRST, encoding="utf-8")
        print("\nsandboxes.yaml, with three sandboxes instead:\n")
        print(indented(FIRST))
        self.run("validate")
        self.note("init wrote a project that is ready to go")

    def plan(self) -> None:
        told = self.run("plan", "--detailed-exitcode", code=2)
        expect("3 to create" in told, "the plan creates 3 sandboxes")
        expect(not self.sandboxes.exists(), "planning starts nothing")
        self.note("plan said what would happen, and did nothing")

    def apply(self) -> None:
        self.run("apply", "--auto-approve")
        self.run("status")
        records = self.records()
        expect(sorted(records) == sorted(ADDRESSES), f"the state knows {', '.join(ADDRESSES)}")
        for address in ADDRESSES:
            expect(records[address]["status"] == "ready", f"{address} is ready")
        self.note("apply started 3 sandboxes and waited until each answered")

    def use(self) -> None:
        """Over HTTP with the sandbox's own key, as an agent would, and through `exec`."""
        record = self.records()["researcher[1]"]
        url = f"{record['info']['sandbox_url']}/v1/shell/exec"
        command = 'echo "42 * 2" | tee note.txt; echo "I am number $INDEX"'
        print(f"\nPOST {url}  {json.dumps({'command': command})}")
        answer = post(url, {"command": command}, key=self.key(record["sandbox_id"]))
        print(indented(json.dumps(answer["data"])))
        expect(
            "I am number 1" in answer["data"]["output"], "the sandbox runs the command, with its environment"
        )
        told = self.run("exec", "researcher[1]", "--", "cat", "note.txt")
        expect("42 * 2" in told, "`exec` sees the file that the request wrote")
        other = self.run("exec", "researcher[0]", "--", "ls", "-A")
        expect("note.txt" not in other, "the other replica has a workspace of its own")
        self.note("a sandbox ran a command sent to its URL, and `exec` saw the file it wrote")

    def change(self) -> None:
        (self.project / "sandboxes.yaml").write_text(SECOND, encoding="utf-8")
        print("\nsandboxes.yaml gets a label for the researchers and another LOG_LEVEL for the reviewer.")
        told = self.run("plan", "--detailed-exitcode", code=2)
        expect("2 to change, 1 to replace" in told, "labels change in place, the environment by replacement")
        before = self.records()
        self.run("apply", "--auto-approve")
        after = self.records()
        for address in ADDRESSES:
            same = before[address]["sandbox_id"] == after[address]["sandbox_id"]
            expect(same == (address != "reviewer"), f"only the reviewer is another one ({address})")
        self.note("a changed file changed 2 sandboxes in place and replaced 1, and nothing else")

    def break_and_mend(self) -> None:
        """Kill one behind the tool's back: seen by the next plan, put back by the next apply."""
        record = self.records()["researcher[0]"]
        pid = self.pids(record["sandbox_id"])["main"]
        print(f"\nkill -9 {pid}  (researcher[0])")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not answers(record["info"]["sandbox_url"]), "the killed sandbox stops answering")
        told = self.run("plan", "--detailed-exitcode", code=2)
        expect("researcher[0]" in told, "the plan names the killed sandbox")
        expect("researcher[1]" not in told and "reviewer" not in told, "and no other")
        self.run("apply", "--auto-approve")
        self.run("status")
        expect(self.records()["researcher[0]"]["status"] == "ready", "researcher[0] is ready again")
        self.note("a sandbox killed with SIGKILL was seen by plan and put back by apply")

    def again(self) -> None:
        self.run("apply", "--auto-approve")
        self.run("plan", "--detailed-exitcode", code=0)
        self.note("a second apply had nothing to do")

    def leave(self) -> None:
        self.remember()
        self.run("destroy", "--auto-approve")
        expect(not self.records(), "the state holds no sandbox")
        expect(not self.ids(), f"no sandbox is left in {self.sandboxes}")
        wait_until(lambda: not any(map(runs, self.processes)), "every process of every sandbox is gone")
        self.note(f"destroy left nothing: {len(self.processes)} processes gone, no files, an empty state")

    # -- what the stages are made of

    def run(self, *words: str, code: int = 0, at: Path | None = None) -> str:
        """Run the command, show it with its output, and insist on its exit code."""
        print(f"\n$ reconciler {' '.join(words)}", flush=True)
        done = subprocess.run(
            [self.command, *words],
            cwd=at or self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
        )
        print(indented(done.stdout), flush=True)
        expect(done.returncode == code, f"exit code {code}, got {done.returncode}")
        self.remember()
        return done.stdout

    def records(self) -> dict[str, dict[str, Any]]:
        """What is recorded, by address."""
        done = subprocess.run(
            [self.command, "show", "--json"],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        expect(done.returncode == 0, f"`show --json` works, got: {done.stderr}")
        found: dict[str, dict[str, Any]] = json.loads(done.stdout)["sandboxes"]
        return found

    def key(self, sandbox_id: str) -> str:
        return (self.sandboxes / sandbox_id / "key").read_text(encoding="ascii").strip()

    def ids(self) -> list[str]:
        if not self.sandboxes.is_dir():
            return []
        return sorted(path.name for path in self.sandboxes.iterdir() if not path.name.startswith("."))

    def pids(self, sandbox_id: str) -> dict[str, int]:
        """The processes of a sandbox by role; none once it is gone."""
        try:
            written = json.loads((self.sandboxes / sandbox_id / "process.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {role: entry[0] for role, entry in written.items() if isinstance(entry, list)}

    def remember(self) -> None:
        for sandbox_id in self.ids():
            self.processes.update(self.pids(sandbox_id).values())

    def note(self, what: str) -> None:
        self.shown.append(what)

    def clean_up(self) -> None:
        """Whatever happened, nothing of ours goes on running."""
        if not self.ids():
            return
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [self.command, "destroy", "--auto-approve"],
                cwd=self.project,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
            )
        for sandbox_id in self.ids():
            for pid in self.pids(sandbox_id).values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def expect(true: bool, what: str) -> None:
    if not true:
        raise NotAsExpected(what)


def wait_until(true: Callable[[], bool], what: str, *, timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        expect(time.monotonic() < deadline, f"{what} within {timeout:g} s")
        time.sleep(0.02)


def post(url: str, body: object, *, key: str) -> dict[str, dict[str, str]]:
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "X-AIO-API-Key": key},
    )
    with direct().open(request, timeout=10) as answer:
        found: dict[str, dict[str, str]] = json.load(answer)
    return found


def answers(url: str) -> bool:
    try:
        direct().open(f"{url}/v1/sandbox", timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it wants its key, so it is there
    except OSError:
        return False
    return True


def direct() -> urllib.request.OpenerDirector:
    """Loopback is never asked for through a proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def runs(pid: int) -> bool:
    """Whether a process of that id is there; one that ended and was not collected yet does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def indented(text: str) -> str:
    """Without the last newline, which `print` adds."""
    return "\n".join(f"    {line}".rstrip() for line in (text.rstrip("\n") or "(no output)").split("\n"))


def find_command() -> str:
    """The `reconciler` of this interpreter's environment, else the one on the PATH."""
    beside = Path(sys.executable).with_name("reconciler")
    found = str(beside) if beside.exists() else shutil.which("reconciler")
    if not found:
        raise SystemExit(
            "there is no `reconciler` command: run `pip install sandbox-reconciler`, or `make run`"
        )
    return found


@contextlib.contextmanager
def walk() -> Iterator[Tour]:
    """The tour's folder, gone at the end whatever happens; asked to end, it still cleans up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="reconciler-tour-") as folder:
        tour = Tour(find_command(), Path(folder).resolve())
        try:
            yield tour
        finally:
            tour.clean_up()


def main() -> int:
    started = time.monotonic()
    with walk() as tour:
        stages: tuple[tuple[str, Callable[[], None]], ...] = (
            ("Begin a project", tour.start),
            ("Plan: what would change", tour.plan),
            ("Apply: make it so", tour.apply),
            ("Use a sandbox", tour.use),
            ("Change the file", tour.change),
            ("Break one behind its back", tour.break_and_mend),
            ("Apply again", tour.again),
            ("Destroy", tour.leave),
        )
        for number, (title, stage) in enumerate(stages, 1):
            print(f"\n=== {number}. {title} " + "=" * max(0, 70 - len(title)))
            try:
                stage()
            except NotAsExpected as error:
                print(f"\ntour: stage {number} ({title}) failed. Expected: {error}", file=sys.stderr)
                return 1
        print("\n=== What you saw " + "=" * 60)
        for line in tour.shown:
            print(f"  ok  {line}")
        print(f"\nThe tour took {time.monotonic() - started:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
