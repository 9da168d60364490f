"""Plan files on disk: read with every doubt told, written at once or not at all, for the owner alone.

What is in them is `core.plan_file`'s business.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.errors import PlanFileBroken, ReconcilerError

if TYPE_CHECKING:
    from reconciler.core.plan_file import Unverified
    from reconciler.engine.context import Context
    from reconciler.model.plan import Plan

_MOST = 512 * 1024 * 1024  # bytes; a plan for a hundred thousand sandboxes is a fifth of that
_SAFE = os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: a FIFO in the way must not hang us
_WHERE = "name a file that can be written"


def read_plan_file(path: str, *, shown: str) -> Unverified:
    """`shown` is the name as it was given. Raises PlanFileBroken for a file that is no plan, ReconcilerError for none."""
    from reconciler.config.documents import departure
    from reconciler.core.plan_file import decode

    return decode(_bytes(path, shown), place=shown, shape=lambda document: departure("plan", document))


def _bytes(path: str, shown: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | _SAFE)
        with os.fdopen(fd, "rb") as stream:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                raise PlanFileBroken(f"{shown} is no plan file: it is no regular file")
            if seen.st_size > _MOST:
                raise PlanFileBroken(f"{shown} is no plan file: it is larger than any plan")
            return stream.read()
    except FileNotFoundError:
        raise ReconcilerError(
            f"there is no plan file {shown}",
            hint="`reconciler plan -o FILE` makes one; to apply to some sandboxes only, use --target",
        ) from None
    except IsADirectoryError:
        raise PlanFileBroken(f"{shown} is no plan file: it is a directory") from None
    except (OSError, ValueError) as error:
        raise ReconcilerError(
            f"cannot read {shown}: {_reason(error)}", hint="check its permissions"
        ) from error


def write_plan_file(path: str, plan: Plan, context: Context, *, shown: str) -> None:
    """Mode 0600. Raises ReconcilerError when it cannot be written; what was there before is there still then."""
    from reconciler.core.plan_file import encode
    from reconciler.model.saved import SavedPlan

    check_place(path, shown=shown, taken=context.desired.files)
    saved = SavedPlan(plan=plan, inputs=context.inputs(), made_at=context.clock.now(), tool=__version__)
    _replace(path, encode(saved, key=context.key()), shown)


def check_place(path: str, *, shown: str, taken: Sequence[str] = ()) -> None:
    """Raises ReconcilerError where a plan file must not go: over a directory, a device, the configuration itself."""
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ReconcilerError(f"cannot write {shown}: {_reason(error)}", hint=_WHERE) from error
    if stat.S_ISDIR(seen.st_mode):
        raise ReconcilerError(f"cannot write {shown}: it is a directory", hint="name a file in it")
    if not stat.S_ISREG(seen.st_mode):
        raise ReconcilerError(f"cannot write {shown}: it is no regular file", hint=_WHERE)
    if any(os.path.realpath(path) == os.path.realpath(file) for file in taken):
        raise ReconcilerError(
            f"cannot write {shown}: it is the configuration", hint="name another file: `-o plan.json`"
        )


def _replace(path: str, data: bytes, shown: str) -> None:
    """Through a temporary file beside it, so that nobody ever sees half of it."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.tmp-{os.urandom(4).hex()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as stream:
                os.fchmod(fd, 0o600)  # whatever the umask says
                stream.write(data)
                stream.flush()
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except (OSError, ValueError) as error:
        raise ReconcilerError(f"cannot write {shown}: {_reason(error)}", hint=_WHERE) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
