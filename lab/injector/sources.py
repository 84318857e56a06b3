"""Whatever can be injected, as frames of a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lab.errors import CaptureError, UsageError
from lab.injector.building import built, each_packet, frame_of, is_packet
from lab.injector.memory import Frame, frames_in_memory
from lab.injector.source import Source
from lab.injector.templates import Template
from lab.taps.captures import Capture, Packets
from lab.taps.frames import FrameFile
from lab.taps.places import SocketAt
from lab.taps.tables import take

__all__ = ["open_source"]

_BYTES = (bytes, bytearray, memoryview)


@contextlib.contextmanager
def open_source(packets: Any, network: SocketAt | None = None) -> Iterator[Source]:
    """What is to be injected, as frames of a file, which are there until the end of the ``with`` block.

    packets: a packet of scapy's, bytes, or any iterable of those; the path of a pcap or pcapng file, or "-" for one on
    standard input; a ``Capture`` or a slice of one; a ``Template``. If a packet of scapy's stands for several, all of
    them are meant. What link a packet is for, its first layer tells. Bytes are taken for an IP packet if they begin
    with the header of one that gives their length, else for an Ethernet frame.

    Frames of files and captures have times of their own, and so do packets that scapy dissected.

    network: whose routes and neighbours tell scapy what a packet's fields are that nobody set, such as its source
    address; None: this machine's own, or what ``lab.scapy_sockets`` has set.

    Raises UsageError if it is none of these, or holds no packets; CaptureError for a file of which none can be sent.
    """
    if isinstance(packets, Source):  # open already, as lab.sr has it
        yield packets
    elif isinstance(packets, Template):
        with frames_in_memory([Frame(packets.base, packets.link_type)]) as frames:
            yield Source(name="the template", frames=frames, fields=packets.fields, sums=packets.sums)
    elif isinstance(packets, Capture) and not packets.frames.growing:
        yield _captured(packets.frames, packets.path)
    elif isinstance(packets, Packets):
        with frames_in_memory(_frames_of(packets)) as frames:
            yield _captured(frames, f"that part of {packets.frames.path}")
    elif isinstance(packets, (str, os.PathLike)):
        with FrameFile(packets) as frames:
            yield _captured(frames, frames.path)
    else:
        with contextlib.ExitStack() as opened:
            with contextlib.nullcontext() if network is None or _is_bytes(packets) else _in_network(network):
                frames = opened.enter_context(frames_in_memory(_made(packets)))
            if not len(frames):
                raise UsageError("there are no packets to inject: give one at least")
            timed = bool(frames.columns("time_ns")["time_ns"].all())
            name = "1 packet" if len(frames) == 1 else f"{len(frames):,} packets"
            yield Source(name=name, frames=frames, timed=timed)


def _is_bytes(packets: Any) -> bool:
    """Whether scapy has no part in them for sure."""
    known = packets[0] if isinstance(packets, Sequence) and packets else packets
    return "scapy" not in sys.modules or isinstance(known, _BYTES)


def _in_network(network: SocketAt) -> contextlib.AbstractContextManager[None]:
    from lab.taps.provider import in_network  # it imports scapy's layers

    return in_network(network)


def _captured(frames: FrameFile, name: str) -> Source:
    """Frames that were captured. Raises CaptureError if there is none that is whole."""
    for batch in frames.batches("captured", "length"):
        if (batch["captured"] == batch["length"]).any():
            return Source(name=name, frames=frames, timed=True)
    if len(frames):
        raise CaptureError(f"{name} has no whole frame: each was cut short; capture all of them (tcpdump -s 0)")
    if frames.fault:
        raise CaptureError(f"{name}: {frames.fault}; give a whole file")
    filtered = " that match its filter" if frames.filter else ""
    raise CaptureError(f"{name} has no frames{filtered}; give a capture with one at least")


def _frames_of(packets: Packets) -> Iterator[Frame]:
    """Some frames of a capture, in the order in which they are in the file or slice."""
    numbers = packets.numbers
    known = take(packets.frames, ("interface", "time_ns", "length"), numbers)
    link_types = [source.link_type for source in packets.frames.sources]
    rows = zip(numbers, *(values.tolist() for values in known.values()), strict=True)
    for number, interface, time_ns, length in rows:
        yield Frame(bytes(packets.frames.frame_bytes(number)), link_types[interface], time_ns, length)


def _made(packets: Any) -> Iterator[Frame]:
    """What somebody made, as frames. Raises UsageError for what is no packet."""
    alone = is_packet(packets) or isinstance(packets, _BYTES)
    if not alone and not isinstance(packets, Iterable):
        raise UsageError(
            f"{type(packets).__name__} can't be injected: give a packet of scapy's, bytes, a list of those, the path "
            "of a capture file, a lab.Capture or a lab.Template"
        )
    for each in [packets] if alone else packets:
        if isinstance(each, _BYTES):
            yield frame_of(bytes(each))
        elif is_packet(each):
            yield from map(built, each_packet(each))
        else:
            raise UsageError(f"a {type(each).__name__} is no packet: give packets of scapy's, or bytes")
