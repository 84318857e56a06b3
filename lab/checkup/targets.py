"""Which web server is meant: a port, or a URL of one on this machine's loopback."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.checks import check_count
from lab.checkup.naming import NAME
from lab.checkup.network import LOOPBACK, is_loopback
from lab.errors import UsageError

__all__ = ["Target", "bracketed", "parse_target"]

_PORTS = {"http": 80, "https": 443}
_MAX_PORT = (1 << 16) - 1
_GIVE = "give a port (8080), or the URL of a server on loopback (http://localhost:8080/)"


@dataclass(frozen=True)
class Target:
    """A server on loopback. host: a loopback address without brackets, or localhost or a name below it."""

    scheme: str
    host: str
    port: int
    path: str = "/"

    def url(self, host: str | None = None) -> str:
        """Of the server, under another name or address of this machine."""
        return f"{self.scheme}://{self.authority(host)}{self.path}"

    def authority(self, host: str | None = None) -> str:
        """Such as "[::1]:8080"; without the port where it is that of the scheme."""
        host = bracketed(host or self.host)
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def named(self) -> bool:
        """Whether it is asked for by a name."""
        return self.host == NAME or self.host.endswith(f".{NAME}")

    @property
    def usual(self) -> bool:
        """Whether its host is one of those that are asked anyway."""
        return self.host in (NAME, *LOOPBACK.values())


def bracketed(host: str) -> str:
    """An IPv6 address as URLs have it (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def parse_target(server: str | int) -> Target:
    """A port is of http://localhost. Raises UsageError for what is no server of this machine."""
    text = str(server).strip()
    if text.lstrip("+-").isdecimal():
        check_count("port", int(text), high=_MAX_PORT)
        return Target("http", NAME, int(text))
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        hint = "an IPv6 address stands in brackets in a URL, http://[::1]:8080/" if text.count(":") > 2 else _GIVE
        raise UsageError(f"{server!r} is no URL: {hint}") from None
    if parts.scheme not in _PORTS:
        raise UsageError(f"{server!r}: doctor speaks HTTP and HTTPS only; {_GIVE}")
    if port == 0:
        raise UsageError(f"{server!r}: no server has port 0; {_GIVE}")
    if not (host == NAME or host.endswith(f".{NAME}") or is_loopback(host)):
        raise UsageError(f"{host or server} is not this machine's loopback, and doctor asks nobody else: {_GIVE}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], path)
