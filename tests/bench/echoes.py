"""ICMP echoes by Python packages: python echoes.py NAME ADDRESS SIZE COUNT, which `peers.py` runs inside a world.

Prints one JSON list, the round trips in ns, the first tenth left out as warm-up.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable


def icmplib(address: str, size: int, count: int) -> list[float]:
    from icmplib import ping

    host = ping(address, count=count, interval=0, timeout=1, payload_size=size, privileged=True)
    return [1e6 * ms for ms in host.rtts]


def _asked(address: str, size: int, count: int, measured: Callable[[int, object, object], float]) -> list[float]:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.packet import Raw
    from scapy.sendrecv import sr1

    six = ":" in address
    payload = bytes(size)
    request = IPv6(dst=address) / ICMPv6EchoRequest(data=payload) if six else IP(dst=address) / ICMP() / Raw(payload)
    found = []
    for _ in range(count):
        begun_ns = time.perf_counter_ns()
        reply = sr1(request, timeout=1, verbose=0)
        took_ns = time.perf_counter_ns() - begun_ns
        if reply is not None:
            found.append(measured(took_ns, request, reply))
    return found


def sr1_call(address: str, size: int, count: int) -> list[float]:
    """From calling sr1() to its return."""
    return _asked(address, size, count, lambda took_ns, _request, _reply: took_ns)


def sr1_stamps(address: str, size: int, count: int) -> list[float]:
    """From the time that scapy notes when it sends to that of the reply, which is the kernel's."""
    return _asked(
        address, size, count, lambda _took_ns, request, reply: 1e9 * (float(reply.time) - float(request.sent_time))
    )


PEERS = {"icmplib": icmplib, "scapy sr1": sr1_call, "scapy sr1, its stamps": sr1_stamps}


def main() -> int:
    name, address, size, count = sys.argv[1:]
    found = PEERS[name](address, int(size), int(count))
    if len(found) < int(count) * 0.9:
        raise SystemExit(f"{int(count) - len(found)} of {count} echoes got no reply")
    print(json.dumps(found[int(count) // 10 :]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
