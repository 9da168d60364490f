"""Options of backends that are reached over HTTP: address, key, TLS files. Raises ConfigError; shows no key."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from reconciler.errors import ConfigError
from reconciler.model.desired import Secret

_PRINTABLE = re.compile(r"[!-~]([ -~]*[!-~])?", re.ASCII)
_ADDRESS = re.compile(r"[!-~]{1,2000}", re.ASCII)
_FILES = ("ca_cert", "client_cert", "client_key")


def address(url: object) -> str:
    """Without a slash at its end."""
    if not is_address(url) or "?" in str(url) or "#" in str(url):
        raise ConfigError(
            "`url` is no address: it has a scheme and a host, perhaps a port and a path, and no user, query or fragment",
            hint="write one such as http://provisioner:8002; the key belongs into `api_key: {env: NAME}`",
        )
    return str(url).rstrip("/")


def key(api_key: object) -> Secret | None:
    """None and "" are no key."""
    if api_key is None or api_key == "":
        return None
    if isinstance(api_key, str):
        api_key = Secret(api_key)
    if not isinstance(api_key, Secret):
        raise ConfigError("`api_key` is no text", hint="from plain Python give the key itself")
    text = api_key.reveal().strip()
    if _PRINTABLE.fullmatch(text) is None:
        raise ConfigError(
            "`api_key` is empty, or holds characters that no header may", hint="look where it comes from"
        )
    return Secret(text)


def trust(url: str, tls: object) -> ssl.SSLContext | None:
    """Without `tls` what the system trusts; None where nothing is encrypted."""
    if tls is None:
        return ssl.create_default_context() if url.startswith("https:") else None
    if not isinstance(tls, Mapping) or not set(tls) <= set(_FILES):
        raise ConfigError("`tls` is wrong", hint=f"it takes {', '.join(_FILES)}")
    if not url.startswith("https:"):
        raise ConfigError("`tls` is set, and `url` is not https", hint="write the address with https://")
    ca_cert, client_cert, client_key = (tls.get(name) for name in _FILES)
    if client_key is not None and client_cert is None:
        raise ConfigError("`tls` has a client_key without a client_cert", hint="give both")
    try:
        context = ssl.create_default_context(cafile=ca_cert)
    except (OSError, ssl.SSLError, TypeError):
        raise ConfigError(
            f"`tls.ca_cert` {ca_cert} is no file of certificates that can be read",
            hint="it holds certificates as PEM text",
        ) from None
    if client_cert is not None:
        try:
            context.load_cert_chain(client_cert, client_key, password="")
        except (OSError, ssl.SSLError, TypeError, ValueError):
            raise ConfigError(
                f"`tls.client_cert` {client_cert} and its key cannot be used",
                hint="they are PEM files that belong together, the key without a passphrase",
            ) from None
    return context


def is_address(url: object) -> bool:
    """An http URL with a host, a port that is one, and nobody's name in it."""
    if not isinstance(url, str) or _ADDRESS.fullmatch(url) is None:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0
        and parts.username is None
        and parts.password is None
    )
