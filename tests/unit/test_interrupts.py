"""Ctrl-C is noted, not thrown, and never lost between an outer and an inner block."""

from __future__ import annotations

import signal
import threading

import pytest

from lab.interrupts import noted


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def test_it_is_noted_and_the_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    called = []
    with noted(lambda: called.append(1)) as event:
        assert not event.is_set()
        ctrl_c()
        assert event.is_set()
        assert called == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_raises():
    with noted() as event:
        ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()
    assert event.is_set()


def test_blocks_tell_each_other():
    called = []
    with noted() as outer:
        with noted() as inner:
            ctrl_c()
        assert inner.is_set()
        assert outer.is_set()
        with noted(lambda: called.append(1)) as late:
            assert late.is_set()
            assert called == [1]


def test_other_threads_and_ignored_signals_are_left_alone():
    seen = []

    def elsewhere():
        with noted() as event:
            seen.append((signal.getsignal(signal.SIGINT), event.is_set()))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted() as event:
            ctrl_c()
        assert not event.is_set()
    finally:
        signal.signal(signal.SIGINT, before)
