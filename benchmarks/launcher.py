"""Starts the processes that are measured, from a process of its own that stays small.

The kernel counts into a child's peak memory what its parent held when it was forked: measured from the benchmarks
themselves, with all that they import, every small command would seem as large as they are. One request a line, JSON:
`{"argv", "cwd", "env", "out", "err"}`, the last two paths; one answer a line: `[status, wall, cpu, peak KB]`. Must
import nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(asked: dict) -> list[float]:  # type: ignore[type-arg]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, asked["out"], flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, asked["err"], flags, 0o600),
    ]
    os.chdir(asked["cwd"])
    began = time.perf_counter()
    try:
        pid = os.posix_spawnp(asked["argv"][0], asked["argv"], asked["env"], file_actions=actions)
    except OSError:
        return [127, 0.0, 0.0, 0]
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    return [os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]


if __name__ == "__main__":
    main()
