"""Backend type name → backend. Our own by table, third parties' by entry point or dotted path.

Imports no backend before it is asked for, and scans no entry points for our own: every command pays for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from reconciler.backends.adapter import VERBS, presented
from reconciler.backends.base import SandboxBackend
from reconciler.errors import ConfigError, ReconcilerError, Unavailable
from reconciler.model.desired import BackendConfig
from reconciler.model.diagnostic import Diagnostic, Severity

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "reconciler.backends"
_OURS: Mapping[str, str] = {
    "apple": "reconciler.backends.apple:AppleBackend",
    "docker": "reconciler.backends.docker:DockerBackend",
    "kubernetes": "reconciler.backends.kubernetes:KubernetesBackend",
    "memory": "reconciler.backends.memory:MemoryBackend",
    "process": "reconciler.backends.process:ProcessBackend",
    "remote": "reconciler.backends.remote:RemoteSandboxBackend",
    "url": "reconciler.backends.url:UrlBackend",
}
_EXTRAS = frozenset({"docker"})  # ours that need an SDK, by type name


def backend_types() -> tuple[str, ...]:
    """Every name that `open_backend` takes here and now, sorted; dotted paths come on top."""
    return tuple(sorted({*_OURS, *(point.name for point in _entry_points())}))


def open_backend(config: BackendConfig) -> SandboxBackend:
    """The backend an entry of `backends:` describes; its options are the constructor's keyword arguments.

    Raises ConfigError for an unknown type, one that cannot be imported, one that is no backend, and for wrong
    options; whatever the constructor raises from our tree passes.
    """
    made = _class(config)
    _check_verbs(config, made)
    _check_options(config, made)
    try:
        backend = presented(made(**config.options))
        return backend if config.type in _OURS else guarded(backend)
    except (ReconcilerError, KeyboardInterrupt):
        raise
    except ImportError as error:
        raise _cannot_import(config, error) from error
    except OSError as error:
        raise Unavailable(f"backend {config.name!r}: {error}") from error
    except BaseException as error:  # a third party's constructor may raise anything, SystemExit among it
        raise _wrong(
            config, f"cannot be made: {type(error).__name__}: {error}", "check its options"
        ) from error


def guarded(backend: SandboxBackend) -> SandboxBackend:
    """Imported for third parties' alone: our own need no guard, and every command would pay for it."""
    from reconciler.backends.guard import Guarded

    return Guarded(backend)


def _class(config: BackendConfig) -> type:
    kind = config.type
    if kind in _OURS:
        return _from_path(config, _OURS[kind])
    if ":" in kind:
        return _from_path(config, kind)
    for point in _entry_points():
        if point.name == kind:
            return _from_path(config, point.value)
    known = backend_types()
    import difflib  # only who mistyped something pays for it

    close = difflib.get_close_matches(kind, known, n=1)
    hint = (
        f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}, or package.module:Class"
    )
    raise _wrong(config, f"has the unknown type {kind!r}", hint)


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _from_path(config: BackendConfig, path: str) -> type:
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise _cannot_import(config, error) from error
    except AttributeError as error:
        raise _wrong(config, f"is not there: {error}", f"check the class name in {path!r}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _wrong(
            config, f"cannot be imported: {type(error).__name__}: {error}", f"try `python -m {module_name}`"
        ) from error
    if not isinstance(found, type):  # calling whatever the YAML names would run it, even to validate
        raise _wrong(
            config,
            f"is {path!r}, which is no class",
            f"name a class with the methods {', '.join(VERBS)}",
        )
    return found


def _check_verbs(config: BackendConfig, made: type) -> None:
    """Before anything is called: only what keeps the contract is ever made."""
    missing = [verb for verb in VERBS if not callable(getattr(made, verb, None))]
    missing += sorted(getattr(made, "__abstractmethods__", frozenset()) - set(missing))
    if missing:
        raise _wrong(
            config,
            f"is {made.__qualname__}, which is no sandbox backend: it lacks {', '.join(missing)}",
            f"a backend has the methods {', '.join(VERBS)}",
        )


def _check_options(config: BackendConfig, made: type) -> None:
    try:
        parameters = list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):  # written in C: it will say itself
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    valid = [p.name for p in named if "Callable" not in str(p.annotation)]
    listed = f"its options are {', '.join(valid)}" if valid else "it takes no options"
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for option in sorted(config.options):
            if option not in valid:
                import difflib

                close = difflib.get_close_matches(option, valid, n=1)
                hint = f"did you mean {close[0]!r}? {listed}" if close else listed
                raise _wrong(config, f"has no option {option!r}", hint)
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in config.options:
            raise _wrong(config, f"needs the option {parameter.name!r}", listed)


def _cannot_import(config: BackendConfig, error: ImportError) -> ConfigError:
    missing = (error.name or "").partition(".")[0]
    if config.type in _EXTRAS and missing != "reconciler":
        hint = f"pip install 'sandbox-reconciler[{config.type}]'"
    elif ":" in config.type:
        hint = f"install the package with {config.type.partition(':')[0]}, or put it on PYTHONPATH"
    else:
        hint = f"install the Python package {missing}" if missing else "check how it was installed"
    return _wrong(config, f"cannot be imported: {error}", hint)


def _wrong(config: BackendConfig, what: str, hint: str) -> ConfigError:
    message = f"backend {config.name!r} (type {config.type!r}) {what}"
    diagnostic = Diagnostic(
        severity=Severity.ERROR, code="backend", summary=message, fix=hint, position=config.position
    )
    return ConfigError(message, diagnostics=(diagnostic,), hint=hint)
