"""Which hosts are reached without a proxy: sandboxes mostly live next door, where no proxy can reach them.

Loopback, private, link-local and single-label hosts, `*.docker.internal` and `*.containers.internal` go direct;
every other host keeps what the environment says.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import SplitResult, urlsplit

_LOCAL_SUFFIXES = (".docker.internal", ".containers.internal", ".localhost")


def goes_direct(url: str) -> bool:
    """True when the host of this URL must not be asked for through a proxy."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return True  # no URL at all: the request says so itself
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_link_local


def proxy_for(scheme: str, host: str) -> SplitResult | None:
    """What the environment names for this host, None where it is reached without one."""
    if urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(scheme)
    if not proxy:
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts if parts.hostname else None
