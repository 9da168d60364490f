"""5,000 sandboxes through the real thread driver: create 30 ms, ready 0.5 s later, 64 in flight, on the memory backend.

The ideal is what the arithmetic allows: all creates back to back in 64 lanes, plus the readiness of the last.
"""

from __future__ import annotations

import gc
import resource
import sys
import time

from reconciler.backends.memory import MemoryBackend
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.stop import StopRequest
from reconciler.engine.workflow import ApplyOptions, apply
from reconciler.model.desired import Address, BackendConfig, Desired, DesiredSandbox, SandboxSpec
from reconciler.model.position import Position
from reconciler.stores.memory import MemoryStore

CREATE, READY, LANES = 0.030, 0.5, 64


def main() -> None:
    gc.set_threshold(50_000, 20, 50)  # as the command line does
    count = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdigit() else 5000
    spec, here = SandboxSpec(image="one"), Position("sandboxes.yaml", 1, 1)
    addresses = [Address(f"s[{i}]") for i in range(count)]
    sandboxes = {
        a: DesiredSandbox(address=a, group="s", backend="main", spec=spec, position=here) for a in addresses
    }
    backend = MemoryBackend("fleet", create_seconds=CREATE, ready_seconds=READY)
    config = BackendConfig(name="main", type="memory")
    context = Context(
        desired=Desired(stack="fleet", sandboxes=sandboxes, backends={"main": config}),
        store=MemoryStore("fleet"),
        backends=BackendPool({"main": config}, lambda _: backend),
    )
    began, cpu = time.perf_counter(), time.process_time()
    report = apply(context, ApplyOptions(parallelism=LANES), confirm=lambda _: True, stop=StopRequest())
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    done = sum(result.status == "done" for result in report.results)
    ideal = count * CREATE / LANES + READY
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{done} of {count} ready in {took:.2f} s, ideal {ideal:.2f} s: {took / ideal:.2f} times (goal: at most 1.3); "
        f"{cpu:.2f} s of processor time, {peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
