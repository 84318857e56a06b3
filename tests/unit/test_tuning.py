"""What --fifo, --mlock, --awake and --busy-poll refuse, and what they leave behind: nothing."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

import lab
from lab.streams import Cpus
from lab.tuning import FIFO_LIMIT_NS, Tuning, _awake


@pytest.mark.parametrize("wait", ["spin", "yield"])
@pytest.mark.parametrize("cpus", [Cpus(1, 1), Cpus(1, None, 1), Cpus(1, 0, 1)], ids=str)
def test_a_polling_real_time_thread_has_its_cpu_to_itself(wait, cpus):
    with pytest.raises(lab.UsageError, match=r"on one CPU.*use --wait block, or --placement inline or cross-cpu"):
        Tuning(fifo=True).check(wait, cpus)
    Tuning().check(wait, cpus)
    Tuning(fifo=True).check("block", cpus)
    Tuning(fifo=True).check("epoll", cpus)


@pytest.mark.parametrize("cpus", [Cpus(1, 0), Cpus(1, None), Cpus(1, None, 0)], ids=str)
def test_it_may_poll_on_its_own_cpu(cpus):
    Tuning(fifo=True).check("spin", cpus)


def test_a_wire_has_no_turn_beside_a_real_time_thread_on_a_schedule():
    with pytest.raises(lab.UsageError, match=r"give --cpus NEAR,FAR,WIRE .* or leave --fifo out"):
        Tuning(fifo=True).check("block", Cpus(1, None, 1), scheduled=True)
    Tuning(fifo=True).check("block", Cpus(1, None, 0), scheduled=True)
    Tuning(fifo=True).check("block", Cpus(1, 1), scheduled=True)
    Tuning().check("block", Cpus(1, None, 1), scheduled=True)


def test_real_time_is_bounded():
    assert Tuning(fifo=True).limit_ns == FIFO_LIMIT_NS
    assert Tuning(mlock=True, awake=True).limit_ns == 0


def test_real_time_without_the_right(monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    Tuning().enter_thread()
    with pytest.raises(lab.Unavailable, match=r"SCHED_FIFO.*EPERM.*ulimit -r.*leave --fifo out") as caught:
        Tuning(fifo=True).enter_thread()
    assert caught.value.errno == errno.EPERM


def test_cpus_stay_awake_for_as_long_as_the_file_is_open(tmp_path):
    device = tmp_path / "cpu_dma_latency"
    device.touch()

    def opened():
        return any(link.is_symlink() and link.readlink() == device for link in Path("/proc/self/fd").iterdir())

    with _awake(device):
        assert device.read_bytes() == struct.pack("=i", 0)
        assert opened()
    assert not opened()


def test_cpus_without_power_management(tmp_path):
    with (
        pytest.raises(lab.Unavailable, match=r"keep the CPUs awake.*ENOENT.*leave --awake out") as caught,
        _awake(tmp_path / "cpu_dma_latency"),
    ):
        pass
    assert caught.value.errno == errno.ENOENT
    assert not list(tmp_path.iterdir())


def test_cpus_that_are_not_ours_to_keep_awake(tmp_path, monkeypatch):
    def refuse(*_arguments, **_more):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(lab.Unavailable, match=r"EACCES.*Run as root"), _awake(tmp_path):
        pass


@pytest.mark.parametrize("ns", [1, 999, -1, 1_000_000_001])
def test_a_busy_poll_is_in_microseconds(ns):
    with pytest.raises(lab.UsageError, match="give 1us to 1s"):
        Tuning(busy_poll_ns=ns)


def test_busy_polling_that_is_refused():
    class Refusing(socket.socket):
        def setsockopt(self, *_arguments):
            raise PermissionError(errno.EPERM, "no")

    with Refusing() as end:
        Tuning().prepare(end, None)
        with pytest.raises(lab.Unavailable, match=r"SO_BUSY_POLL.*EPERM.*leave --busy-poll out"):
            Tuning(busy_poll_ns=1000).prepare(end, None)


def test_options_are_taken_from_the_others():
    options = {"fifo": True, "busy_poll": "50us", "size": 64}
    assert Tuning.taken_from(options) == Tuning(fifo=True, busy_poll_ns=50_000)
    assert options == {"size": 64}
    assert Tuning.taken_from({}) == Tuning()
    with pytest.raises(lab.UsageError, match="not a duration"):
        Tuning.taken_from({"busy_poll": "50"})
