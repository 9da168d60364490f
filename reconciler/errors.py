"""The exception tree. Imports nothing, so every floor may raise from it.

ReconcilerError
├── ConfigError            the YAML is wrong; carries diagnostics             exit 3
├── StoreError             state, journal or lock cannot be read or written   exit 1
│   ├── StateCorrupt       the bytes are not a state of ours
│   ├── StateTooNew        written by a newer version
│   ├── LockHeld           another run holds the lock                         exit 4
│   └── LeaseLost          our lease was taken over: nothing more may be written
├── ObservationIncomplete  a listing failed: unknown is never absent          exit 1
├── PlanFileBroken         a plan file that is none, was edited, or is not for this stack or version
├── PlanStale              an object moved since it was planned on            exit 6
├── Refused                policy or protection                               exit 7
│   └── PlanRefused        and the plan that was shown says why
└── BackendError           what a backend answers instead of a result
    ├── Transient          worth another try; may say when (`retry_after`, seconds)
    │   └── Unavailable    the backend itself cannot be reached
    └── Permanent          trying again changes nothing
        ├── NotFound       the object is definitely not there
        ├── Conflict       the name is taken by something that is not ours
        └── Unsupported    this backend cannot do that

A message says what, where and what next. SDK errors are translated at the backend's edge and chained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ReconcilerError(Exception):
    """Base of everything this package raises on purpose. `hint` is the next step, in the imperative."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(ReconcilerError):
    """The configuration is invalid; `diagnostics` holds every problem found, in file order."""

    def __init__(self, message: str, *, diagnostics: Sequence[object] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)


class StoreError(ReconcilerError):
    """State, journal or lock cannot be read or written."""


class StateCorrupt(StoreError):
    """What is stored is not a state of ours: truncated, edited by hand, or something else entirely."""


class StateTooNew(StoreError):
    """The state was written by a newer version of this tool."""


class LockHeld(StoreError):
    """Another run holds the lock. `holder` is its description, for people."""

    def __init__(self, message: str, *, holder: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class LeaseLost(StoreError):
    """Our lease was taken over while we ran; whatever we would write now is refused (fencing)."""


class ObservationIncomplete(ReconcilerError):
    """At least one backend could not be listed, so nothing may be decided from the look. `failures` says which, and why."""

    def __init__(self, message: str, *, hint: str = "", failures: Mapping[str, str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.failures = dict(failures or {})


class PlanFileBroken(ReconcilerError):
    """The bytes are no plan of ours that may be applied here: truncated, edited, of another stack, of a newer version."""


class PlanStale(ReconcilerError):
    """What was planned on is not what is there: an object moved between plan and apply, or the state did."""


class Refused(ReconcilerError):
    """Policy or protection forbids it."""


class PlanRefused(Refused):
    """A plan that was shown may not be carried out. The message holds every reason, as the plan does."""


class BackendError(ReconcilerError):
    """A backend's answer instead of a result."""


class Transient(BackendError):
    """Worth another try. `retry_after` is in seconds, None when the backend did not say."""

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unavailable(Transient):
    """The backend itself cannot be reached: engine down, connection refused, timeout."""


class Permanent(BackendError):
    """Trying again changes nothing."""


class NotFound(Permanent):
    """The object is definitely not there."""


class Conflict(Permanent):
    """The name or id is taken by something that is not ours."""


class Unsupported(Permanent):
    """This backend cannot do that."""
