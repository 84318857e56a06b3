"""Runs a command in a network namespace of its own, with things wrong that a test plants there.

    python launch.py [FAULT…] -- COMMAND…

It always enters a new user and network namespace with its own lo up, so nothing here touches the machine. Exit 77 if
that cannot be had. Faults:

no-rights      the command has no capability
nobody         nor has it, and it is a user that the machine knows by name: some programs ask for it
no-userns      no further user namespace can be made
near-only      one more network namespace can be made: the near one of a private world, but no far one
ping-sockets   ping sockets are allowed
ipv6-off       IPv6 is switched off
deaf           echo requests are not answered
lo-up          nothing: lo is up, as with all faults but the next
lo-down        lo stays down
no-address     lo loses 127.0.0.1
icmp-dropped   nf_tables drops ICMP and ICMPv6 that comes in
hosts-astray   /etc/hosts says that localhost is another machine
hosts-ipv4     /etc/hosts gives localhost 127.0.0.1 alone
no-localhost   /etc/hosts has no line for localhost
files-and-dns  nothing but /etc/hosts and DNS is asked for names
no-resolver    /etc/resolv.conf is empty
small-disk     the folder "small" is a file system of 256 KiB
one-cpu        the command may use one CPU only
no-tun         /dev/net/tun, if it is there, may not be opened
no-stamps      the kernel knows no SO_TIMESTAMPING
no-hosts       there is no /etc/hosts
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import sys
from pathlib import Path

from lab.taps import nftables as nft
from lab.world import kernel
from lab.world.mounts import put_in_place

CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 2, 4, 8, 32, 4096, 16384
SIOCSIFADDR = 0x8916
FILES = {
    "hosts-astray": {"/etc/hosts": "# localhost 127.0.0.1\n198.51.100.7 localhost\n"},
    "hosts-ipv4": {"/etc/hosts": "127.0.0.1 localhost\n"},
    "no-localhost": {"/etc/hosts": "127.0.0.1 vm\n"},
    "files-and-dns": {"/etc/nsswitch.conf": "hosts: files dns\n"},
    "no-resolver": {"/etc/resolv.conf": ""},
}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
SOL_SOCKET, SO_TIMESTAMPING = 1, 37
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOPROTOOPT


def write(path: str, text: str) -> None:
    Path("/proc/sys", path).write_text(text)


def give_up(what: str) -> None:
    print(f"{what}: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
    sys.exit(77)


def remove_address() -> None:
    """An interface that is given 0.0.0.0 loses what it has (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16sHH4s16x", b"lo", socket.AF_INET, 0, bytes(4)))


def drop_icmp() -> None:
    """Rules that live as long as the command, which inherits the socket that they came by."""
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nft.NETLINK_NETFILTER)
    protocols = (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
    nft.install(channel, "test", [nft.Chain("input", [[*nft.of_protocol(each), nft.drop()] for each in protocols])])
    os.set_inheritable(channel.detach(), True)


def mount_small_disk() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    Path("small").mkdir()
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"small", b"tmpfs", 0, b"size=256k"):
        print(f"no file system for the test: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(77)


def forbid_tun() -> None:
    """Mounts the device file over itself, where device files do not count (EACCES): that stops root too."""
    libc = ctypes.CDLL(None, use_errno=True)
    tun, flags = b"/dev/net/tun", MS_BIND | MS_NODEV | MS_NOSUID | MS_NOEXEC
    failed = libc.unshare(CLONE_NEWNS) or libc.mount(tun, tun, None, MS_BIND, None)
    if failed or libc.mount(None, tun, None, flags | MS_REMOUNT, None):
        print(f"no such mount for the test: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(77)


def hide_hosts() -> None:
    """Puts a folder in the place of /etc that leads to all of it but that file."""
    libc = ctypes.CDLL(None, use_errno=True)
    Path("etc").mkdir()
    failed = libc.unshare(CLONE_NEWNS) or libc.mount(b"/etc", b"etc", None, MS_BIND | MS_REC, None)
    if failed or libc.mount(b"none", b"/etc", b"tmpfs", 0, None):
        print(f"no such mount for the test: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(77)
    for path in Path("etc").absolute().iterdir():
        if path.name != "hosts":
            Path("/etc", path.name).symlink_to(path)


def forbid_stamps() -> None:
    """Has the kernel say of SO_TIMESTAMPING that it doesn't know it, as sandboxes do (seccomp)."""
    number = SETSOCKOPT.get(platform.machine())
    if number is None:
        print(f"no such filter for the test on {platform.machine()}", file=sys.stderr)
        sys.exit(77)
    # struct seccomp_data: the number of the call at 0; its second and third argument at 24 and 32.
    program = [
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 5, number),
        (LOAD, 0, 0, 24),
        (EQUAL, 0, 3, SOL_SOCKET),
        (LOAD, 0, 0, 32),
        (EQUAL, 0, 1, SO_TIMESTAMPING),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0):
        print(f"no such filter for the test: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(77)


def main() -> None:
    split = sys.argv.index("--")
    faults, command = set(sys.argv[1:split]), sys.argv[split + 1 :]
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
        # Another user than root loses every capability when the command is executed.
        kernel.map_self(uid, gid, inside=65534 if "nobody" in faults else 1000 if "no-rights" in faults else 0)
    except OSError as error:
        print(f"no user namespace for the test: {error}", file=sys.stderr)
        sys.exit(77)
    if "ipv6-off" in faults:
        write("net/ipv6/conf/all/disable_ipv6", "1")
        write("net/ipv6/conf/default/disable_ipv6", "1")
    if "deaf" in faults:
        write("net/ipv4/icmp_echo_ignore_all", "1")
        write("net/ipv6/icmp/echo_ignore_all", "1")
    if "lo-down" not in faults:
        kernel.link_up("lo")
    if "no-address" in faults:
        remove_address()
    if "icmp-dropped" in faults:
        drop_icmp()
    texts = {path: text for fault in faults for path, text in FILES.get(fault, {}).items()}
    if texts:
        put_in_place(texts)
    if "ping-sockets" in faults:
        write("net/ipv4/ping_group_range", "1000 1000" if "no-rights" in faults else "0 0")
    if "no-userns" in faults:
        write("user/max_user_namespaces", "0")
    if "near-only" in faults:
        write("user/max_net_namespaces", "2")  # the command's own is the first
    if "small-disk" in faults:
        mount_small_disk()
    if "no-tun" in faults and Path("/dev/net/tun").exists():
        forbid_tun()
    if "no-hosts" in faults:
        hide_hosts()
    if "one-cpu" in faults:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if "no-stamps" in faults:
        forbid_stamps()
    os.execvp(command[0], command)


main()
