"""dnsmasq: a name server that knows a few names of its own, and asks nobody for others."""

from __future__ import annotations

from pathlib import Path

from lab.services.order import Order, Program, executable, log_says

__all__ = ["NAMES", "Dnsmasq"]

_FIX = "Install it (apt install dnsmasq-base on Debian and Ubuntu, dnsmasq on Fedora)"
#: Whose addresses it tells; all others are names that do not exist. Both are for documentation (RFC 5737, RFC 3849).
NAMES = {"printer.lab.test": ("192.0.2.7", "2001:db8::7")}


class Dnsmasq(Program):
    """Names by UDP and TCP; it leases no addresses."""

    port = 53  # no other can be named in resolv.conf

    def __init__(self) -> None:
        self._dnsmasq = executable("dnsmasq", what="dnsmasq", fix=_FIX)

    def order(self, folder: Path, address: str, port: int) -> Order:
        settings = folder / "dnsmasq.conf"
        lines = [
            f"port={port}",
            f"listen-address={address}",
            "bind-interfaces",
            "no-resolv",
            "no-hosts",
            "local=/#/",  # what it doesn't know does not exist, rather than: ask somebody else
            "log-queries",
            *(f"host-record={name},{','.join(addresses)}" for name, addresses in NAMES.items()),
        ]
        return Order(
            folder=str(folder),
            files={str(settings): "\n".join([*lines, ""])},
            command=[self._dnsmasq, "--no-daemon", f"--conf-file={settings}"],
        )

    def ready(self, folder: Path) -> bool:
        """It tells that after it has bound its sockets (dnsmasq.c)."""
        return log_says(folder, "dnsmasq: started, version")
