"""The few system calls that Python 3.11 lacks, each raising OSError with the name of the call."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "MAX_MESSAGE",
    "USERNS_FIX",
    "adopt_orphans",
    "allow_ping",
    "die_with_parent",
    "enter_private_network",
    "inside",
    "keep_mounts_private",
    "leave_checksums",
    "link_mtu",
    "link_up",
    "map_self",
    "mount",
    "namespace",
    "net_sysctl",
    "setns",
    "unmount",
    "unshare",
]

#: Bytes of a request to the helper, or of its reply, at most.
MAX_MESSAGE = 1 << 16

#: What mends it where no user namespace can be made.
USERNS_FIX = (
    "Allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu; "
    "user.max_user_namespaces above 0; --security-opt seccomp=unconfined in a container), or run as root"
)

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
_NAMES = {
    CLONE_NEWNS: "CLONE_NEWNS",
    CLONE_NEWNET: "CLONE_NEWNET",
    CLONE_NEWUSER: "CLONE_NEWUSER",
    CLONE_NEWUSER | CLONE_NEWNET: "CLONE_NEWUSER | CLONE_NEWNET",
}
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x1000, 0x4000, 0x40000, 2  # linux/mount.h, umount2(2)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFMTU, _IFF_UP = 0x8913, 0x8914, 0x8921, 1
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)


def unshare(flags: int) -> None:
    """Moves the calling thread into new namespaces (unshare(2))."""
    _checked(_libc.unshare(flags), f"unshare({_NAMES[flags]})")


def setns(descriptor: int, kind: int = CLONE_NEWNET) -> None:
    """Moves the calling thread into the namespace of `descriptor` (setns(2)); a user namespace moves the process."""
    _checked(_libc.setns(descriptor, kind), f"setns({_NAMES[kind]})")


def namespace() -> int:
    """A descriptor that keeps the calling thread's network namespace alive."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """Runs a block in another network namespace, and comes back."""
    home = namespace()
    try:
        setns(descriptor)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def map_self(uid: int, gid: int, inside: int | None = None) -> None:
    """Gives the caller ids in its new user namespace: single-id maps, no setgroups (user_namespaces(7)).

    uid, gid: its ids outside, read before it entered. inside: the id it gets for both; None: those it had.
    """
    inner = (uid, gid) if inside is None else (inside, inside)
    maps = (("setgroups", "deny"), ("uid_map", f"{inner[0]} {uid} 1"), ("gid_map", f"{inner[1]} {gid} 1"))
    for name, text in maps:
        try:
            Path(f"/proc/self/{name}").write_text(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"write /proc/self/{name}") from None


def enter_private_network(*, as_root: bool = False) -> str:
    """Moves the caller, of one thread, into a new network namespace whose lo is up; "root" or "user namespace".

    Root needs no more; anybody else enters a new user namespace as well, and keeps user and group there, or is root
    there with as_root.
    """
    uid, gid = os.getuid(), os.getgid()
    rights = "root"
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        map_self(uid, gid, inside=0 if as_root else None)
        rights = "user namespace"
    link_up("lo")
    allow_ping()
    return rights


def allow_ping() -> None:
    """Lets the caller's group open ping sockets in this network namespace, as many systems do outside (icmp(7))."""
    gid = os.getgid()
    with contextlib.suppress(OSError):  # where /proc/sys is read-only it stays as it is: nobody may
        Path("/proc/sys/net/ipv4/ping_group_range").write_text(f"{gid} {gid}")


def die_with_parent(number: int) -> None:
    """Has the kernel send the caller signal `number` when its parent dies (PR_SET_PDEATHSIG); survives execve(2)."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def keep_mounts_private() -> None:
    """Lets no mount of this mount namespace, which is a new one, be seen in the one that it was copied from."""
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount(MS_PRIVATE)")


def mount(target: str, *, source: str | None = None, kind: str | None = None) -> None:
    """Mounts a new file system of a kind over `target`, or `source`, a file or folder that is there (mount(2))."""
    given = (source or kind, target, kind)
    names = (None if text is None else os.fsencode(text) for text in given)
    flags = ctypes.c_ulong(_MS_BIND if source else 0)
    _checked(_libc.mount(*names, flags, None), f"mount over {target}")


def unmount(target: str) -> None:
    """Takes away what is mounted at `target`, also while it is in use (umount2(2), MNT_DETACH)."""
    _checked(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def adopt_orphans() -> None:
    """Makes the caller the parent of descendants whose own parent ends (PR_SET_CHILD_SUBREAPER)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def net_sysctl(name: str, value: str | None = None) -> str:
    """A sysctl of the current namespace, below net/, its parts divided by slashes; a value sets it first."""
    path = Path("/proc/sys/net", name)
    try:
        if value is not None:
            path.write_text(value)
        return " ".join(path.read_text().split())
    except OSError as error:
        what = f"{'read' if value is None else f'write {value!r} to'} {path}"
        raise OSError(error.errno, error.strerror, what) from None


def link_up(name: str) -> None:
    """Sets IFF_UP on an interface of the current namespace (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", name.encode(), 0)
        (flags,) = struct.unpack("16xh22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        try:
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", name.encode(), flags | _IFF_UP))
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"ioctl(SIOCSIFFLAGS, {name} up)") from None


def link_mtu(name: str) -> int:
    """The MTU of an interface of the current namespace, in bytes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        reply = fcntl.ioctl(control, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
    return int(struct.unpack("16xi20x", reply)[0])


def leave_checksums(name: str, to_device: bool) -> None:
    """Leaves checksums to the device, or makes the stack fill them in, and so cut segments too, before it sends.

    As ``ethtool -K NAME tx on|off``. Some devices can't do otherwise, as lo.
    """
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, to_device))
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, request)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"ioctl(ETHTOOL_STXCSUM, {name})") from None
