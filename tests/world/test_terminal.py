"""Private worlds in a terminal: ``lab exec`` and ``lab shell`` under a shell with job control, by what a user types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: Makes standard input the controlling terminal, and becomes another command.
CONTROL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
#: Says that it runs, then repeats what is typed. The sum tells its output from the echo of the line itself.
REPEAT = "sh -c 'echo runs-$((20 + 3)); exec cat'"


class Terminal:
    """A terminal with a program in it: type, and wait until a text shows up."""

    def __init__(self, *command, **more):
        self.master, slave = pty.openpty()
        command = [sys.executable, "-c", CONTROL, *command]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, **more
        )
        os.close(slave)
        self.shown = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, text, seconds=30):
        """Waits for `text` after what was waited for before."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0], (
                f"{text!r} did not show up: {self.shown!r}"
            )
            self.shown += os.read(self.master, 4096).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]

    def hang_up(self):
        os.close(self.master)
        self.master = None

    def close(self):
        self.process.kill()
        self.process.wait()
        if self.master is not None:
            self.hang_up()


@pytest.fixture
def terminal(world, tool, tmp_path):
    """A terminal with an interactive bash in it, which knows ``lab`` and calls itself ``outer``."""
    bash = tool("bash")
    (tmp_path / "lab").write_text(f'#!/bin/sh\nexec {sys.executable} -m lab "$@"\n')
    (tmp_path / "lab").chmod(0o755)
    (tmp_path / ".bashrc").write_text("PS1='inner: '\n")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "SHELL": bash, "TERM": "dumb"}
    opened = Terminal(bash, "--norc", "--noprofile", "-i", cwd=tmp_path, env={**environment, "PS1": "outer: "})
    opened.until("outer: ")
    yield opened
    opened.close()


def said(terminal, what):
    """The terminal's shell tells what it is asked: of the answer, not of the echo of the question."""
    terminal.type(f"echo answer-$((1 + 1)) {what}\n")
    terminal.until("answer-2 ")
    return terminal


def repeats(terminal, word):
    """What is typed shows twice: once as the terminal's echo, once from the command that repeats it."""
    terminal.type(f"{word}\n")
    terminal.until(word)
    terminal.until(word)


def test_ctrl_c_is_the_commands(terminal):
    terminal.type(f"lab exec {REPEAT}\n")
    terminal.until("runs-23")
    terminal.type(CTRL_C)
    terminal.until("outer: ")  # what is typed before that, Ctrl-C takes back
    said(terminal, "code=$?").until("code=130")


def test_a_command_that_catches_ctrl_c_gets_it_once(terminal):
    script = 'trap "echo caught-$((1 + 2)); n=$((n + 1))" INT; echo runs-$((20 + 3)); read; exit $n'
    terminal.type(f"lab exec bash -c '{script}'\n")
    terminal.until("runs-23")
    terminal.type(CTRL_C)
    terminal.until("caught-3")
    terminal.type("\n")
    said(terminal, "code=$?").until("code=1\r")


@pytest.mark.parametrize("capture", ["", "--capture x.pcapng"], ids=["plain", "captured"])
def test_ctrl_z_and_fg(terminal, capture):
    terminal.type(f"lab exec {capture} -- {REPEAT}\n")
    terminal.until("runs-23")
    for word in ("first", "second"):
        terminal.type(CTRL_Z)
        terminal.until("Stopped")
        terminal.until("outer: ")
        terminal.type("fg\n")
        terminal.until("lab exec")
        repeats(terminal, word)
    terminal.type(CTRL_D)
    said(terminal, "code=$?").until("code=0")


def test_bg_and_reading_from_the_terminal(terminal):
    """In the background it runs on until it wants to read; then it is stopped, and says so."""
    terminal.type(f"lab exec {REPEAT} &\n")
    terminal.until("runs-23")
    terminal.type("while ! jobs | grep 'Stop[p]ed'; do :; done\n")
    terminal.until("Stopped")
    terminal.until("outer: ")
    terminal.type("fg\n")
    terminal.until("lab exec")
    repeats(terminal, "word")
    terminal.type(CTRL_D)
    said(terminal, "code=$?").until("code=0")


def test_jobs_of_a_shell_inside(terminal):
    terminal.type("lab shell\n")
    terminal.until("inner: ")
    terminal.type(f"{REPEAT}\n")
    terminal.until("runs-23")
    terminal.type(CTRL_Z)
    terminal.until("Stopped")
    terminal.until("inner: ")
    terminal.type("fg\n")
    terminal.until("cat")
    repeats(terminal, "again")
    terminal.type(CTRL_C)
    terminal.until("inner: ")
    said(terminal, "code=$?").until("code=130")
    terminal.type("exit 5\n")
    terminal.until("outer: ")
    said(terminal, "code=$?").until("code=5")


def test_a_shell_inside_that_is_suspended(terminal):
    terminal.type("lab shell\n")
    terminal.until("inner: ")
    terminal.type("suspend\n")
    terminal.until("Stopped")
    terminal.until("outer: ")
    said(terminal, "still here").until("still here")
    terminal.type("fg\n")
    terminal.until("lab shell")
    said(terminal, "links=$(ls /proc/sys/net/ipv4/conf | xargs)").until("links=all default lo")
    terminal.type("exit\n")
    terminal.until("outer: ")


def test_a_terminal_that_is_closed_ends_it(terminal, wait_until, tmp_path, read_pcapng):
    terminal.type("lab shell --capture x.pcapng\n")
    terminal.until("inner: ")
    terminal.type("cat /proc/$PPID/task/$PPID/children > pids; echo $PPID >> pids\n")
    said(terminal, "written").until("written")
    processes = [Path("/proc", pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(processes) == 4  # the capturer, the shell, its guard, and lab
    terminal.hang_up()
    wait_until(lambda: not any(process.exists() for process in processes), "all of them to be gone")
    assert read_pcapng(tmp_path / "x.pcapng").statistics
