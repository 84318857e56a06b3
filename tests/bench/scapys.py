"""What scapy takes to send packets, or to have them answered: measured in a process of its own by `injecting.py`.

    python scapys.py send|sr 4|6 COUNT

Prints as JSON how many were sent, how many were answered, and the seconds from the call until it returned.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from packets import datagram, echo_request
from scapy.sendrecv import send, sr


def main() -> None:
    what, family, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    packets: Any = [datagram(family)] * count if what == "send" else [echo_request(family, seq) for seq in range(count)]
    begun_s = time.perf_counter()
    if what == "send":
        sent, answered = len(send(packets, verbose=False, return_packets=True)), 0
    else:
        pairs, without = sr(packets, timeout=2, verbose=False)
        sent, answered = len(pairs) + len(without), len(pairs)
    took_s = time.perf_counter() - begun_s
    print(json.dumps({"sent": sent, "answered": answered, "seconds": took_s}))


main()
