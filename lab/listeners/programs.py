"""The processes that have sockets: their names, users and ages, and the command that would end them."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Program", "end_command", "program", "user_name"]

_TICK_NS = 10_000_000  # the kernel tells when a process started in hundredths of a second (proc_pid_stat(5))
_SERVICE = re.compile(r"/([^/]+\.service)(?:/|$)")
#: The service manager of a user: a service below it is the user's own.
_MANAGER = re.compile(r"user@\d+\.service")
_DOCKER = re.compile(r"(?:^|/)(?:docker[-/])([0-9a-f]{64})(?:\.scope)?(?:/|$)")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A process that has a socket. What could not be had is None: it may have ended meanwhile.

    name: of its program. user: whose it is. since_ns: when it started, ns since 1970; up to a second early, as the
    kernel tells when it was booted in whole seconds (proc_stat(5)), but to 10 ms among each other. command: its words.
    parent: the process id of its parent. cgroup: its control group, of systemd's if there are several.
    """

    pid: int
    name: str
    user: str | None = None
    since_ns: int | None = None
    command: tuple[str, ...] = ()
    parent: int | None = None
    cgroup: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in the JSON documents."""
        return {
            "pid": self.pid, "process": self.name, "user": self.user, "since_ns": self.since_ns,
            "command": list(self.command), "unit": unit(self.cgroup),
        }  # fmt: skip


def program(pid: int, name: str) -> Program:
    """What may be known of a process. name: the kernel's, for want of a better one."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Program(
                pid=pid,
                name=process.name(),
                user=process.username(),
                since_ns=round(process.create_time() * 1e9 / _TICK_NS) * _TICK_NS,
                command=tuple(_or_nothing(process.cmdline)),
                parent=process.ppid(),
                cgroup=_cgroup(pid),
            )
    except psutil.Error:
        return Program(pid=pid, name=name)


def _or_nothing(ask: Any) -> list[str]:
    import psutil

    try:
        return list(ask())
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return []


def _cgroup(pid: int) -> str:
    """Its path in the one hierarchy of cgroup v2, or in systemd's own of v1 (cgroups(7)); empty if it can't be read."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    paths = {controllers: path for _number, controllers, path in (line.split(":", 2) for line in lines)}
    return paths.get("name=systemd") or paths.get("", "")


def user_name(uid: int) -> str:
    """Its name, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unit(cgroup: str) -> str | None:
    """The systemd service that a control group is of, or None."""
    found = [name for name in _SERVICE.findall(cgroup) if not _MANAGER.fullmatch(name)]
    return found[-1] if found else None


def end_command(programs: Sequence[Program], port: int, *, booted: bool | None = None, root: bool | None = None) -> str:
    """The command that would end these processes, which have a socket at `port`; empty if there is none to name.

    Of processes that are parents of others, the parents: they would start others anew. booted: systemd runs here (None:
    it is looked for). root: we may end all (None: we are). Our own process is never named: it is to close the socket.
    """
    booted = Path("/run/systemd/system").is_dir() if booted is None else booted  # sd_booted(3)
    root = os.geteuid() == 0 if root is None else root
    pids = {each.pid for each in programs}
    first = [each for each in programs if each.parent not in pids and each.pid != os.getpid()]
    told = dict.fromkeys(_ending(each, port, booted, root) for each in sorted(first, key=lambda each: each.pid))
    return _joined(filter(None, told))


def _ending(each: Program, port: int, booted: bool, root: bool) -> str:
    service, container = unit(each.cgroup), _DOCKER.search(each.cgroup)
    mine = root or each.user == user_name(os.geteuid())
    sudo = "" if mine else "sudo "
    if each.name == "docker-proxy":  # it stands for a container that publishes the port
        return f"docker stop $(docker ps -q --filter publish={port})"
    if container:
        return f"docker stop {container[1][:12]}"
    if each.pid == 1:  # systemd holds it for a socket unit; ending it would end the machine
        return ""
    if booted and service and "/user@" in each.cgroup:
        return f"systemctl --user stop {service}"
    if booted and service:
        return f"{'' if root else 'sudo '}systemctl stop {service}"
    return f"{sudo}kill {each.pid}"


def _joined(commands: Iterable[str]) -> str:
    """Those of one kind by one command."""
    by_kind: dict[str, list[str]] = {}
    for command in commands:
        kind, _, what = command.rpartition(" ") if "$(" not in command else (command, "", "")
        by_kind.setdefault(kind, []).append(what)
    return "; ".join(" ".join([kind, *filter(None, whats)]) for kind, whats in by_kind.items())
