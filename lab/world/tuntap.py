"""Tun and tap devices (Documentation/networking/tuntap.rst): a device whose other side is a descriptor."""

from __future__ import annotations

import fcntl
import os
import struct

__all__ = ["IFF_TAP", "IFF_TUN", "open_tunnel"]

IFF_TUN, IFF_TAP, _IFF_NO_PI = 0x0001, 0x0002, 0x1000
_TUNSETIFF = 0x400454CA
_CLONE = "/dev/net/tun"


def open_tunnel(device: str, kind: int) -> int:
    """Makes a device in the current namespace and returns its descriptor, not blocking. Raises OSError."""
    try:
        descriptor = os.open(_CLONE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"open {_CLONE}") from None
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), kind | _IFF_NO_PI))
    except OSError as error:
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, f"ioctl(TUNSETIFF, {device})") from None
    return descriptor
