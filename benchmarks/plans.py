"""A no-op plan of 10 to 10,000 sandboxes on the memory backend; beside it Terraform with as many built-in resources."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import process, reconciler

SIZES = (10, 100, 1000, 10_000)
TERRAFORM_SIZES = (10, 100)  # 1,000 take over a minute each: named on the command line if wanted
REPLICAS = """version: 1
stack: bench
backends: {{main: {{type: memory, path: world.json}}}}
sandboxes:
  s:
    replicas: {count}
    image: one
    environment: {{LOG_LEVEL: info, REGION: eu}}
    resources: {{cpu: 1, memory: 1Gi, pids: 512}}
"""


def literal(count: int) -> str:
    """As many sandboxes written out one by one, some 14 lines each."""
    head = "version: 1\nstack: bench\nbackends: {main: {type: memory, path: world.json}}\nsandboxes:\n"
    one = """  s{i}:
    image: registry.example.com/team/image:{i}
    environment:
      LOG_LEVEL: info
      INDEX: "{i}"
      REGION: eu
    resources:
      cpu: 1
      memory: 1Gi
      pids: 512
    labels:
      team: search
      tier: t{i}
"""
    return head + "".join(one.format(i=i) for i in range(count))


def ours(text: str, folder: Path) -> None:
    (folder / "sandboxes.yaml").write_text(text)
    process([*reconciler(), "apply", "--auto-approve", "-q"], folder, runs=1, warmup=0)


def terraform(count: int, runs: int) -> None:
    if shutil.which("terraform") is None:
        print("terraform: not on the PATH")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body = {
            "resource": {"terraform_data": {"s": {"count": count, "input": {"image": "one", "region": "eu"}}}}
        }
        (folder / "main.tf.json").write_text(json.dumps(body))
        process(["terraform", "init", "-input=false"], folder, runs=1, warmup=0)
        process(["terraform", "apply", "-auto-approve", "-input=false"], folder, runs=1, warmup=0)
        cost = process(["terraform", "plan", "-input=false"], folder, runs=runs)
        print(f"terraform plan {count:6d}        {cost}")


def main() -> None:
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            ours(REPLICAS.format(count=size), Path(name))
            cost = process(
                [*reconciler(), "plan", "--detailed-exitcode"], Path(name), runs=3 if size > 1000 else 5
            )
            print(f"no-op plan {size:6d} replicas   {cost}")
        if size in TERRAFORM_SIZES or (size == 1000 and "--terraform-1000" in sys.argv):
            terraform(size, 1 if size == 1000 else 3)
    print("goals: 1,000 under 250 ms cpu; 10,000 under 2000 ms cpu and 200 MB")
    with tempfile.TemporaryDirectory() as name:
        ours(literal(1000), Path(name))
        cost = process([*reconciler(), "plan", "--detailed-exitcode"], Path(name), runs=3)
        print(f"no-op plan, 1,000 literal   {cost}   (goal: under 1000 ms)")
        cost = process([*reconciler(), "validate"], Path(name), runs=3)
        print(f"validate, 1,000 literal     {cost}")


if __name__ == "__main__":
    main()
