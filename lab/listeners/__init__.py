"""Listening sockets: which there are, whose they are, who can reach them, and what a port answers and why.

``bound.py`` lists them (sock_diag(7)), ``reach.py`` judges who reaches them, ``programs.py`` tells whose they are,
``asking.py`` asks a port, ``holders.py`` finds who has it, ``networks.py`` also in other namespaces, ``binding.py``
whether it can be had and which is free, ``scanning.py`` asks many; ``telling.py`` makes ``reports.py`` of it all.
The kernel is asked throughout, never another program. Only ports of TCP and UDP are told of, no unix sockets.
"""

from lab.listeners.asking import Answer, ask, ask_tcp, ask_udp
from lab.listeners.binding import Binding, bind_errno, free_port
from lab.listeners.bound import Listener, list_listeners, opener
from lab.listeners.holders import Holder, find_holders
from lab.listeners.networks import holders_elsewhere
from lab.listeners.programs import Program
from lab.listeners.reach import Reach
from lab.listeners.reports import Port, Ports, Scan
from lab.listeners.telling import ports

__all__ = [
    "Answer", "Binding", "Holder", "Listener", "Port", "Ports", "Program", "Reach", "Scan", "ask", "ask_tcp", "ask_udp",
    "bind_errno", "find_holders", "free_port", "holders_elsewhere", "list_listeners", "opener", "ports",
]  # fmt: skip
