"""Which API server, and as whom: a kubeconfig's context, or the service account of the pod that this process runs in.

Reads files and may run the credential plugin that a kubeconfig names; talks to no server. Credentials are never logged.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from reconciler.errors import ConfigError, Permanent, Unavailable

Json = Mapping[str, Any]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HINT = "`kubectl config get-contexts` shows which there are"
_PLUGIN_WITHIN = 60.0  # seconds for a plugin to give credentials
_RENEW_BEFORE = 30.0  # seconds before the end of credentials


class Access(Struct, frozen=True, kw_only=True):
    """`headers` gives what says who we are, anew for each request; `forget` drops what a server did not accept, and says
    whether there may be other credentials."""

    server: str
    headers: Callable[[], Mapping[str, str]]
    forget: Callable[[], bool]
    context: ssl.SSLContext | None = None


def access(kubeconfig: str | None, context: str | None, environ: Mapping[str, str] = os.environ) -> Access:
    """Raises ConfigError for what is missing or makes no sense."""
    files = _files(kubeconfig, environ)
    if not files:
        if context is None and "KUBERNETES_SERVICE_HOST" in environ:
            return _in_cluster(environ)
        raise ConfigError(
            "there is no kubeconfig, and this is no pod of a cluster",
            hint="name one under `kubeconfig:`, or set KUBECONFIG",
        )
    return _of_context(_merged(files), context)


def _files(kubeconfig: str | None, environ: Mapping[str, str]) -> list[Path]:
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no kubeconfig {path}", hint="check `kubeconfig:`")
        return [path]
    named = [Path(part).expanduser() for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    home = [Path(environ.get("HOME") or "~").expanduser() / ".kube" / "config"]
    return [path for path in named or home if path.is_file()]


def _merged(files: list[Path]) -> dict[str, Any]:
    """The first to say something counts, as for `kubectl`."""
    merged: dict[str, Any] = {"current-context": "", "clusters": {}, "users": {}, "contexts": {}}
    for path in files:
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            merged["current-context"] = merged["current-context"] or document.get("current-context") or ""
            for kind, what in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
                for entry in document.get(kind) or ():
                    found = {**(entry.get(what) or {}), "": path.parent}
                    merged[kind].setdefault(str(entry["name"]), found)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} is no kubeconfig: {error}", hint="`kubectl config view` reads it"
            ) from error
    return merged


def _of_context(config: Json, wanted: str | None) -> Access:
    name = wanted or str(config["current-context"])
    if name not in config["contexts"]:
        told = f"the kubeconfig has no context {name!r}" if name else "the kubeconfig has no current context"
        raise ConfigError(told, hint=_HINT)
    context = config["contexts"][name]
    cluster = _entry(config, "clusters", str(context.get("cluster")), name)
    user = _entry(config, "users", str(context["user"]), name) if context.get("user") else {"": Path()}
    server = str(cluster.get("server") or "")
    if not server.startswith(("http://", "https://")):
        raise ConfigError(f"cluster {context.get('cluster')!r} of the kubeconfig names no server", hint=_HINT)
    credentials = _Credentials(user, server)
    secured = _tls(cluster, credentials) if server.startswith("https://") else None
    return Access(server=server, headers=credentials.headers, forget=credentials.forget, context=secured)


def _entry(config: Json, kind: str, name: str, context: str) -> Json:
    if name not in config[kind]:
        raise ConfigError(
            f"context {context!r} of the kubeconfig names {kind} {name!r}, which is not there", hint=_HINT
        )
    found: Json = config[kind][name]
    return found


def _in_cluster(environ: Mapping[str, str]) -> Access:
    """The token is read anew each time: the kubelet renews its file."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not (_ACCOUNT / "token").is_file():
        raise ConfigError(
            "this pod has no token of a service account",
            hint="give it one (`automountServiceAccountToken: true`), or a kubeconfig",
        )
    credentials = _Credentials({"tokenFile": str(_ACCOUNT / "token"), "": _ACCOUNT}, "")
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        headers=credentials.headers,
        forget=credentials.forget,
        context=ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")),
    )


class _Credentials:
    """Of one user: a token, a file with one, a name with a password, or a plugin that gives a token or a certificate."""

    def __init__(self, user: Json, server: str) -> None:
        self.user = user
        self._server = server
        self._lock = threading.Lock()
        self._given: dict[str, Any] | None = None
        self._ends = float("inf")

    def headers(self) -> Mapping[str, str]:
        token = self.user.get("token")
        if self.user.get("tokenFile"):
            token = _read(_beside(self.user, str(self.user["tokenFile"]))).strip()
        if self.user.get("exec"):
            token = self.given().get("token")
        if token:
            return {"Authorization": f"Bearer {token}"}
        if self.user.get("username"):
            pair = f"{self.user['username']}:{self.user.get('password') or ''}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}

    def given(self) -> Mapping[str, Any]:
        """What the plugin gives, asked again shortly before it ends."""
        with self._lock:
            if self._given is None or time.time() > self._ends - _RENEW_BEFORE:
                self._given = _from_plugin(self.user["exec"], self.user[""])
                self._ends = _end(self._given.get("expirationTimestamp"))
            return self._given

    def forget(self) -> bool:
        with self._lock:
            self._given = None
        return bool(self.user.get("exec") or self.user.get("tokenFile"))


def _end(stamp: object) -> float:
    try:
        return (
            datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp() if stamp else float("inf")
        )
    except ValueError:
        return float("inf")


def _from_plugin(plugin: Json, folder: Path) -> dict[str, Any]:
    version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    environment |= {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}
    command = str(plugin.get("command") or "")
    if "/" in command:
        command = str(folder / command)
    try:
        done = subprocess.run(
            [command, *map(str, plugin.get("args") or ())],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PLUGIN_WITHIN,
            check=False,
        )
    except OSError as error:
        hint = str(plugin.get("installHint") or "install it, or use another context")
        raise Permanent(
            f"the credential plugin {command} cannot be run: {error.strerror}", hint=hint
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"the credential plugin {command} gave nothing within {_PLUGIN_WITHIN:g} s"
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise Permanent(
            f"the credential plugin {command} failed: {said or done.returncode}", hint="try it by hand"
        )
    try:
        status = json.loads(done.stdout)["status"]
        return dict(status)
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(
            f"the credential plugin {command} gave no credentials", hint="try it by hand"
        ) from error


def _tls(cluster: Json, credentials: _Credentials) -> ssl.SSLContext:
    authority = _file(cluster, "certificate-authority")
    try:
        made = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        user = credentials.user
        pair = _file(user, "client-certificate"), _file(user, "client-key")
        if user.get("exec"):
            given = credentials.given()
            pair = tuple(
                str(given.get(f"client{what}Data") or "").encode() for what in ("Certificate", "Key")
            )  # type: ignore[assignment]
        if pair[0] and pair[1]:
            _load(made, pair[0], pair[1])
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"the certificates of the kubeconfig make no sense: {error}", hint=_HINT) from error
    return made


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """From a file that only we can read, and that is gone at once: the library takes no other."""
    with tempfile.NamedTemporaryFile() as file:  # mode 0600
        file.write(certificate + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


def _file(entry: Json, name: str) -> bytes | None:
    """The content that an entry holds itself, or that of the file that it names."""
    data = entry.get(f"{name}-data")
    if data:
        return base64.b64decode(str(data))
    return _read(_beside(entry, str(entry[name]))).encode() if entry.get(name) else None


def _beside(entry: Json, path: str) -> Path:
    """Relative paths are relative to the kubeconfig."""
    folder: Path = entry[""]
    return folder / Path(path).expanduser()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}, which the kubeconfig names, cannot be read: {error}") from error
