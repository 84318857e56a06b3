"""Any command in a private world: what it sees there, how it ends, and what is left. Terminals: test_terminal.py."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAB = [sys.executable, "-m", "lab"]
PYTHON = [sys.executable, "-c"]
RIGHTS = pytest.mark.parametrize("faults", [(), ("no-rights",)], ids=["as we are", "unprivileged"])

#: Prints as JSON what a process has of its caller.
INHERITED = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "environment": {k: v for k, v in (e.split("=", 1) for e in open("/proc/self/environ").read().split("\\0") if e)},
    "signals": [status[name].strip() for name in ("SigBlk", "SigIgn")],
    "groups": [os.getpgrp() == os.getpgid(int(sys.argv[1])), os.getsid(0) == os.getsid(int(sys.argv[1]))],
    "ids": [os.getresuid(), os.getresgid()],
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "pipe": os.read(int(sys.argv[2]), 99).decode(),
    "rest": [os.getcwd(), sys.stdin.read(), os.umask(0), os.nice(0), sys.argv[3:]],
}))
"""

#: A server and a client over both IP versions, on a port that everybody wants. They keep to one CPU: as each CPU has a
#: queue of its own for lo, a segment that the other one sends may overtake those that wait here while the host has
#: taken this CPU away, and a reader that does not put segments in order then sees no response.
HTTP = """
import http.server, os, socket, threading, urllib.request
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "300000"); self.end_headers()
        self.wfile.write(b"x" * 300_000)
class Server6(http.server.HTTPServer):
    address_family = socket.AF_INET6
for kind, host in ((http.server.HTTPServer, "127.0.0.1"), (Server6, "::1")):
    server = kind((host, 8080), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://[{host}]:8080/six" if ":" in host else f"http://{host}:8080/four"
    assert len(urllib.request.urlopen(url).read()) == 300_000
    server.shutdown(); server.server_close()
"""

#: Sends argv[2] datagrams of argv[3] bytes over IPv argv[1] to a socket that nobody reads, and ends at once.
FLOOD = """
import os, socket, sys
family = {"4": socket.AF_INET, "6": socket.AF_INET6}[sys.argv[1]]
count, size = map(int, sys.argv[2:4])
far, near = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
far.bind(("127.0.0.1" if sys.argv[1] == "4" else "::1", 0))
near.connect(far.getsockname())
for number in range(count):
    near.send(number.to_bytes(size, "big"))
os._exit(0)
"""


@pytest.fixture(autouse=True)
def _world(world):
    """Skips where no private world can be made."""


@pytest.fixture
def start(tmp_path):
    """Starts ``lab exec …`` in the background, its output in pipes; kills it at the end if need be."""
    started = []

    def start(*arguments, **more):
        command = [*LAB, "exec", *arguments]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def error_line(done):
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("lab: error: ")
    return line


# ---- the world ----


@RIGHTS
def test_its_network_is_lo_and_nothing_else(run, faults):
    code = """
import json, os, socket
with socket.create_server(("127.0.0.1", 0)) as four, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
    for server in (four, six):
        socket.create_connection(server.getsockname()[:2]).close()
def tried(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        return out.connect_ex((address, 9))
print(json.dumps([socket.if_nameindex(), tried(socket.AF_INET, "192.0.2.1"), tried(socket.AF_INET6, "2001:db8::1")]))
"""
    done = run("exec", "--", *PYTHON, code, faults=faults)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[[1, "lo"]], 101, 101]  # ENETUNREACH


@RIGHTS
def test_everybody_can_ping(run, tool, faults):
    for address in ("127.0.0.1", "::1"):
        done = run("exec", tool("ping"), "-c", "1", address, faults=faults)
        assert done.returncode == 0, done.stdout + done.stderr


def test_where_namespaces_are_refused(run):
    for command in ("exec true", "shell"):
        done = run(*command.split(), faults=("no-userns", "no-rights"))
        assert done.returncode == 1
        line = error_line(done)
        assert "cannot make a private network: unshare(CLONE_NEWUSER | CLONE_NEWNET): ENOSPC" in line
        assert "user.max_user_namespaces" in line
        assert "--world" not in line


# ---- what passes through untouched ----


ODD_CALLER = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and whoever it executes would, too
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.umask(0o057)
os.nice(3)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("capture", [[], ["--capture", "x.pcapng"]], ids=["plain", "captured"])
@pytest.mark.parametrize("caller", [[], [*PYTHON, ODD_CALLER]], ids=["usual caller", "odd caller"])
def test_the_command_has_what_it_would_have_without_us(tmp_path, capture, caller):
    def inherited(*prefix):
        reading, writing = os.pipe()
        with os.fdopen(writing, "w") as pipe, os.fdopen(reading):
            pipe.write("kept open")
            pipe.close()
            command = [*caller, *prefix, *PYTHON, INHERITED, str(os.getpid()), str(reading), "-x", "--", "--capture"]
            environment = {"PATH": os.environ["PATH"], "LANG": "C", "ODD": "a=b\nc", "EMPTY": ""}
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, input="typed", capture_output=True, text=True, check=True,
                pass_fds=[reading],
            )  # fmt: skip
        assert done.stderr == ""
        return json.loads(done.stdout)

    there = inherited(*LAB, "exec", *capture, "--")
    assert there == inherited()
    assert there["environment"]["ODD"] == "a=b\nc"
    assert there["rest"][:2] == [str(tmp_path), "typed"]
    assert there["groups"] == [True, True]


def test_the_ids_stay(run):
    for faults, uid in (((), os.getuid()), (("no-rights",), 1000)):
        assert run("exec", "id", "-u", faults=faults).stdout == f"{uid}\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["sh", "-c", "kill -INT $$"], 128 + signal.SIGINT),
    ],
)
@pytest.mark.parametrize("capture", [[], ["--capture", "x.pcapng"]], ids=["plain", "captured"])
def test_the_exit_code_is_the_commands(run, capture, command, code):
    done = run("exec", *capture, "--", *command)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_command_that_cannot_be_run(run, tmp_path):
    (tmp_path / "plain").write_text("text")
    (tmp_path / "binary").write_bytes(b"\x7fELF")
    (tmp_path / "binary").chmod(0o755)
    for name, code, said in (
        ("no-such-command", 127, "No such file or directory; check its name and PATH"),
        ("./nowhere/x", 127, "No such file or directory"),
        ("./plain", 126, "Permission denied; make it executable"),
        ("./binary", 126, "Exec format error"),
        (".", 126, "Permission denied"),
    ):
        done = run("exec", name)
        assert done.returncode == code
        assert f"cannot run {name}: {said}" in error_line(done)


def test_options_that_follow_the_command_are_its_own(run):
    assert run("exec", "printf", "%s ", "--capture", "x", "--", "-h").stdout == "--capture x -- -h "
    assert run("exec", "--", "printf", "%s ", "--", "-h").stdout == "-- -h "


def test_bad_usage(run, tmp_path):
    for arguments, code, said in (
        (["exec"], 2, "see lab exec --help"),
        (["exec", "--nope", "true"], 2, "see lab exec --help"),
        (["exec", "--capture", "-", "touch", "ran"], 2, "standard output is the command's; name a file"),
        (["exec", "--capture", "nowhere/x", "touch", "ran"], 1, "cannot write nowhere/x: ENOENT"),
        (["shell", "--capture", "."], 1, "cannot write .: EISDIR"),
    ):
        done = run(*arguments)
        assert done.returncode == code
        assert said in error_line(done)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGWINCH", "SIGTSTP", "SIGRTMIN"])
def test_signals_are_handed_on(start, name):
    code = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", flush=True)
print(signal.Signals(signal.sigwait(signal.valid_signals())).name)
"""
    process = start("--", *PYTHON, code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == (f"{name}\n", "", 0)


def test_a_command_that_signals_its_group_is_not_told_again(tmp_path):
    """It gets one SIGTERM of its own, in a session of the test's; a second would come from lab."""
    code = """
import os, signal, time
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append("TERM"))
signal.signal(signal.SIGUSR1, lambda *_: got.append("USR1"))
os.kill(0, signal.SIGTERM)
child = os.fork()
if child == 0:  # lab looks at signals in turn: when this one has come back, it has seen the other
    os.kill(int(os.environ["LAB"]), signal.SIGUSR1)
    os._exit(0)
os.waitpid(child, 0)
while "USR1" not in got:
    time.sleep(0.01)  # rather than pause(), before which it might come
print(got)
"""
    shell = 'export LAB=$$; exec "$@"'
    command = ["sh", "-c", shell, "sh", *LAB, "exec", *PYTHON, code]
    done = subprocess.run(
        command, cwd=tmp_path, start_new_session=True, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "['TERM', 'USR1']\n"


# ---- the capture ----


@RIGHTS
def test_both_http_conversations_are_whole_for_a_second_reader(run, tool, tmp_path, faults):
    done = run("exec", "--capture", "x.pcapng", "--", *PYTHON, HTTP, faults=faults)
    assert done.returncode == 0, done.stderr

    def tshark(wanted, *fields):
        command = [tool("tshark"), "-r", str(tmp_path / "x.pcapng"), "-Y", wanted, "-T", "fields"]
        command += ["-o", "tcp.check_checksum:FALSE", *(f"-e{field}" for field in fields)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert tshark("http.request", "tcp.stream", "http.request.uri") == ["0\t/four", "1\t/six"]
    assert tshark("http.response", "tcp.stream", "http.response.code") == ["0\t200", "1\t200"]
    assert tshark("http.response", "http.content_length") == ["300000", "300000"]
    for stream, address in enumerate(("ip.addr == 127.0.0.1", "ipv6.addr == ::1")):
        for mark, frames in (("syn", 2), ("fin", 2)):
            found = tshark(f"tcp.stream == {stream} && {address} && tcp.flags.{mark} == 1", "frame.number")
            assert len(found) == frames, mark
    # What was not seen, or seen twice, would show as one of these.
    assert (
        tshark("tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment || tcp.analysis.duplicate_ack", "tcp.stream")
        == []
    )
    assert tshark("tcp.analysis.retransmission || _ws.malformed", "tcp.stream") == []


@pytest.mark.parametrize(("count", "size"), [(100_000, 64), (700, 65_487)])
def test_every_frame_is_there_once_up_to_the_last(run, tmp_path, read_pcapng, family, count, size):
    done = run("exec", "--capture", "x.pcapng", "--", *PYTHON, FLOOD, str(family), str(count), str(size))
    assert (done.returncode, done.stderr) == (0, "")
    file = read_pcapng(tmp_path / "x.pcapng")
    header = 14 + {4: 20, 6: 40}[family] + 8
    sent = [frame for frame in file.frames if len(frame.data) == header + size]
    assert [int.from_bytes(frame.data[header:], "big") for frame in sent] == list(range(count))
    assert {frame.length for frame in sent} == {header + size}
    assert {frame.flags & 0b11111 for frame in sent} == {0b00101}  # inbound, unicast
    times = [frame.time_ns for frame in file.frames]
    assert times == sorted(times)
    assert file.statistics["start_ns"] < times[0]
    assert times[-1] < file.statistics["end_ns"]
    assert file.statistics[4] == file.statistics[8] == len(file.frames)
    assert file.statistics[7] == 0
    ((link_type, snaplen, options),) = file.interfaces
    assert (link_type, snaplen, options[2]) == (1, 262_144, b"lo")


def test_checksums_that_were_not_filled_in_are_marked(run, tmp_path, read_pcapng):
    done = run("exec", "--capture", "x.pcapng", "--", *PYTHON, HTTP)
    assert done.returncode == 0, done.stderr
    tcp = [frame for frame in read_pcapng(tmp_path / "x.pcapng").frames if b"\x1f\x90" in frame.data]
    assert tcp
    assert all(frame.flags & 1 << 9 for frame in tcp)
    assert any(frame.flags & 1 << 11 for frame in tcp)  # 300,000 bytes go in segments larger than the MTU


def test_a_vlan_tag_is_put_back(run, tmp_path, read_pcapng):
    code = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
    out.bind(("lo", 0))
    out.send(bytes.fromhex(sys.argv[1]))
"""
    sent = bytes(12) + b"\x81\x00\x20\x05\x88\xb5" + b"payload" * 10
    # A fault that does no harm here: it has us run as root of a namespace, who may send such a frame.
    done = run("exec", "--capture", "x.pcapng", "--", *PYTHON, code, sent.hex(), faults=("ping-sockets",))
    assert done.returncode == 0, done.stderr
    (frame,) = read_pcapng(tmp_path / "x.pcapng").frames
    assert (frame.data, frame.length) == (sent, len(sent))


def test_frames_that_had_to_be_dropped_are_counted(run, tmp_path, read_pcapng):
    """The capturer is stopped, while more than its ring can hold goes by."""
    code = """
import os, signal, subprocess, sys
parent = os.getppid()
capturer = open(f"/proc/{parent}/task/{parent}/children").read().split()[0]  # the first that lab started
os.kill(int(capturer), signal.SIGSTOP)
subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True)
os.kill(int(capturer), signal.SIGCONT)
"""
    done = run("exec", "--capture", "x.pcapng", "--", *PYTHON, code, FLOOD, "4", "2000", "60000")
    assert done.returncode == 0, done.stderr
    file = read_pcapng(tmp_path / "x.pcapng")
    dropped = file.statistics[7]
    assert dropped > 500
    assert file.statistics[4] == 2000 == dropped + len(file.frames)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"lab: warning: {dropped:,} of 2,000 frames are missing from x.pcapng")


@pytest.mark.parametrize(("code", "ours"), [(0, 1), (3, 3)])
def test_a_full_disk_is_said_and_keeps_the_commands_code(run, code, ours):
    flood = f"{FLOOD}".replace("os._exit(0)", f"os._exit({code})")
    done = run(
        "exec", "--capture", "small/x.pcapng", "--", *PYTHON, flood, "4", "100", "60000", faults=("small-disk",)
    )  # fmt: skip
    assert "cannot write small/x.pcapng: No space left on device; what came before can be read" in error_line(done)
    assert done.returncode == ours


def test_lo_may_go_down_and_up_again(run, tmp_path, read_pcapng):
    code = """
import fcntl, socket, struct, subprocess, sys
for up in (0, 1):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh22x", b"lo", up))  # SIOCSIFFLAGS
subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True)
"""
    arguments = (*PYTHON, code, FLOOD, "4", "10", "100")
    done = run("exec", "--capture", "x.pcapng", "--", *arguments, faults=("ping-sockets",))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_pcapng(tmp_path / "x.pcapng").frames) == 10


# ---- nothing is left behind ----


def alive(mark):
    """Processes with this text in their environment, and what they are called."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is somebody else's
    return found


def test_sigkill_at_any_moment_leaves_nothing_but_a_sound_file(start, tmp_path, wait_until, read_pcapng):
    rng = random.Random(5)
    chatter = FLOOD.replace("for number in range(count):", "while number := 1:")
    files = 0
    for attempt in range(20):
        mark = f"LAB_TEST_{os.getpid()}_{attempt}"
        capture = tmp_path / f"{attempt}.pcapng"
        process = start(
            "--capture", capture.name, "--", *PYTHON, chatter, "4", "0", "500", env={**os.environ, mark: "1"}
        )  # fmt: skip
        if attempt % 2:  # the command, too, is well on its way
            wait_until(lambda: capture.exists() and capture.stat().st_size > 100_000, "frames in the file")  # noqa: B023
        else:
            time.sleep(rng.uniform(0, 0.5))  # the moment is what is varied
        process.kill()
        assert process.communicate() == ("", "")
        wait_until(lambda: not alive(mark), "every process to be gone")  # noqa: B023
        if capture.exists() and capture.stat().st_size:
            files += 1
            file = read_pcapng(capture)
            assert file.statistics[8] == len(file.frames)
    assert files >= 10


def test_sigkill_ends_a_command_that_the_kernel_would_spare(start, wait_until):
    """The kernel drops a process's PDEATHSIG when its file gives it capabilities, as that of ping may; here by hand."""
    code = """
import ctypes, os, signal
assert ctypes.CDLL(None).prctl(1, 0) == 0
print(os.getpid(), flush=True)
signal.pause()
"""
    process = start(*PYTHON, code)
    command = Path("/proc", process.stdout.readline().strip())
    assert command.exists()
    process.kill()
    wait_until(lambda: not command.exists(), "the command to be gone")


def test_the_capture_ends_with_the_command_and_not_with_its_children(
    run, tmp_path, wait_until, read_pcapng, monkeypatch
):
    mark = f"LAB_TEST_{os.getpid()}_CHILD"
    monkeypatch.setenv(mark, "1")
    done = run("exec", "--capture", "x.pcapng", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    assert done.returncode == 0, done.stderr
    assert read_pcapng(tmp_path / "x.pcapng").statistics
    left = alive(mark)
    assert list(left) == [int(done.stdout)]
    os.kill(int(done.stdout), signal.SIGKILL)
    wait_until(lambda: not alive(mark), "the child to be gone")


# ---- help ----


@pytest.mark.parametrize("command", ["exec", "shell"])
def test_the_help_says_what_differs(run, command):
    text = run(command, "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    for said in ("No link leads out", "every port is free", "set-uid", "look like nobody's", "/sys/class/net",
                 "abstract unix sockets", "If lab is killed", "128 + n", f"Example: lab {command}"):  # fmt: skip
        assert said in joined
