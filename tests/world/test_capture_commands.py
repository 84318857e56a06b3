"""``lab capture`` and ``lab read``, as they are typed: what they print, write and exit with."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys

import polars as pl
import pytest

LAB = [sys.executable, "-m", "lab"]
FAMILIES = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}


@pytest.fixture
def start(tmp_path):
    """Starts ``lab capture …`` and returns it when it captures; kills it at the end if need be."""
    started = []

    def start(*arguments, **more):
        command = ["env", "--default-signal=HUP", *LAB, "capture", *arguments]  # under nohup it is ignored
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        process = subprocess.Popen(command, cwd=tmp_path, **options)
        started.append(process)
        assert process.stderr.readline().startswith("lab: capturing on ")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def send(world):
    """Sends numbered datagrams over lo of the world, to nobody's port but one that is open."""

    def send(count, *, family=4, size=64):
        kind, host = FAMILIES[family]
        with world.socket(kind, socket.SOCK_DGRAM) as far, world.socket(kind, socket.SOCK_DGRAM) as near:
            far.bind((host, 0))
            near.connect(far.getsockname())
            for number in range(count):
                near.send(number.to_bytes(size, "big"))

    return send


@pytest.fixture
def tshark(tool, tmp_path):
    """What tshark prints of a file of the test's folder, a list of fields for each frame."""

    def tshark(name, *fields):
        command = [tool("tshark"), "-r", str(tmp_path / name), "-T", "fields", *(f"-e{field}" for field in fields)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    return tshark


def error_line(done):
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("lab: error: ")
    return line


def ended(process, number):
    """Ends a capture by a signal; (exit code, standard output, what else it said)."""
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


# ---- capture ----


def test_a_count_of_frames_into_a_file(start, send, world, family, tshark):
    process = start("lo", "--world", str(world.pid), "-f", "udp", "-c", "100", "-w", "x.pcapng")
    send(150, family=family)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("100 frames, ")
    assert "none lost" in out
    rows = tshark("x.pcapng", "udp.payload", "frame.interface_name", "frame.packet_flags_direction")
    assert [int(payload, 16) for payload, *_ in rows] == list(range(100))
    assert {tuple(rest) for _payload, *rest in rows} == {("lo", "0x00000001")}


def test_frames_are_printed_as_they_come(start, send, world, family):
    process = start("lo", "--world", str(world.pid), "-f", "udp")
    host = FAMILIES[family][1]
    for number in range(3):  # one is shown before the next is sent
        send(1, family=family, size=10 + number)
        line = process.stdout.readline()
        assert host in line
        assert " udp " in line
        assert len(line) <= 81
    code, out, err = ended(process, signal.SIGINT)
    assert (code, out) == (130, "")
    assert err.startswith("3 frames, ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_all_that_came_is_kept(start, send, world, number, tshark):
    process = start("lo", "--world", str(world.pid), "-f", "udp", "-w", "x.pcapng")
    send(1000)
    code, out, err = ended(process, number)
    assert (code, err) == (130, "")
    assert out.startswith("1,000 frames, ")
    assert [int(payload, 16) for (payload,) in tshark("x.pcapng", "udp.payload")] == list(range(1000))


def test_it_ends_after_its_duration(start, world):
    process = start("lo", "--world", str(world.pid), "--duration", "200ms", "--json")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    assert document["format"] == 1
    assert (document["frames"], document["lossless"], document["file"]) == (0, True, None)


def test_the_document(start, send, world, family):
    process = start("lo", "--world", str(world.pid), "-f", "udp", "-c", "20", "--both-copies", "-w", "x", "--json")
    send(10, family=family)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    header = 14 + {4: 20, 6: 40}[family] + 8
    assert {name: document[name] for name in ("frames", "bytes", "dropped", "truncated", "lossless", "file")} == {
        "frames": 20, "bytes": 20 * (header + 64), "dropped": 0, "truncated": 0, "lossless": True, "file": "x",
    }  # fmt: skip
    (interface,) = document["interfaces"]
    assert (interface["name"], interface["linked"], interface["unlinked"]) == ("lo", 10, 0)


def test_down_a_pipe_into_another_reader(start, send, world, family, tool):
    reader = subprocess.Popen(
        [tool("tshark"), "-l", "-r", "-", "-T", "fields", "-e", "udp.payload"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with reader:
        process = start("lo", "--world", str(world.pid), "-f", "udp", "-c", "50", "-w", "-", stdout=reader.stdin)
        reader.stdin.close()
        send(50, family=family)
        assert process.wait(30) == 0
        assert [int(line, 16) for line in reader.stdout] == list(range(50))
    assert process.stderr.read().startswith("50 frames, ")


def test_a_reader_that_leaves_ends_it_quietly(start, send, world):
    process = start("lo", "--world", str(world.pid), "-w", "-")
    process.stdout.close()
    while process.poll() is None:
        send(100)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr.read()


def test_all_interfaces_of_a_network(start, send, world, tshark):
    process = start("all", "--world", str(world.pid), "-f", "udp", "-w", "x.pcapng", "--json")
    send(3)
    code, out, _err = ended(process, signal.SIGINT)
    assert code == 130
    assert [each["name"] for each in json.loads(out)["interfaces"]] == ["lo", "veth"]
    assert tshark("x.pcapng", "frame.interface_name") == [["lo"]] * 3


def test_frames_rate_and_loss_in_a_terminal(send, world, tmp_path):
    master, slave = pty.openpty()
    command = [*LAB, "capture", "lo", "--world", str(world.pid), "-f", "udp", "-w", "x.pcapng"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave, text=True) as process:
        os.close(slave)
        shown = ""

        def until(text):
            nonlocal shown
            while text not in shown:
                assert select.select([master], [], [], 30)[0], shown
                shown += os.read(master, 4096).decode()

        until("Ctrl-C ends it")
        send(7)
        until("7 frames, ")
        until("0 dropped")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stdout.read().startswith("7 frames, ")
    os.close(master)


#: Makes a pair of devices in the namespace it runs in, captures on one, does something to it, and waits for the end.
ON_A_DEVICE = """
import subprocess, sys
from pyroute2 import IPRoute
with IPRoute() as ip:
    ip.link("add", ifname="ours", kind="veth", peer="theirs")
    (index,) = ip.link_lookup(ifname="ours")
    ip.link("set", index=index, state="up")
    command = [sys.executable, "-m", "lab", "capture", *sys.argv[2:]]
    capture = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert capture.stderr.readline().startswith("lab: capturing on ")
    if sys.argv[1] == "delete":
        ip.link("del", index=index)
    else:
        ip.link("set", index=index, state="down")
        print(capture.stderr.readline(), end="", file=sys.stderr)
        capture.terminate()
    print(capture.communicate(timeout=30)[1], end="", file=sys.stderr)
sys.exit(capture.returncode)
"""


def in_a_namespace(root, tmp_path, missing, code, *arguments, faults=("ping-sockets",)):
    """Runs code in a network namespace of its own, whose root we are."""
    command = [sys.executable, str(root / "tests" / "launch.py"), *faults, "--", sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        missing(done.stderr.strip())
    return done


def test_an_interface_that_is_deleted_ends_it(root, tmp_path, missing):
    done = in_a_namespace(root, tmp_path, missing, ON_A_DEVICE, "delete", "ours", "-w", "x.pcapng")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]  # that it went down may have been told before
    assert last == "lab: error: ours was deleted while it was captured; 0 frames are kept in x.pcapng"


def test_an_interface_that_goes_down_is_told(root, tmp_path, missing):
    done = in_a_namespace(root, tmp_path, missing, ON_A_DEVICE, "down", "ours", "-w", "x.pcapng")
    assert done.returncode == 130
    note, warning = done.stderr.strip().splitlines()
    assert note == "lab: note: ours went down; the capture goes on, should it come up again"
    assert warning.startswith("lab: warning: an interface went down")


def test_a_full_disk_keeps_what_was_written(root, tmp_path, missing):
    code = """
import socket, subprocess, sys
command = [sys.executable, "-m", "lab", "capture", "lo", "-f", "udp", "-w", "small/x.pcapng"]
capture = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
assert capture.stderr.readline().startswith("lab: capturing on ")
far, near = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
far.bind(("127.0.0.1", 0)); near.connect(far.getsockname())
while capture.poll() is None:
    near.send(bytes(60_000))
print(capture.stderr.read(), end="", file=sys.stderr)
read = subprocess.run([sys.executable, "-m", "lab", "read", "small/x.pcapng", "--json"], stdout=1)
sys.exit(capture.returncode)
"""
    done = in_a_namespace(root, tmp_path, missing, code, faults=["ping-sockets", "small-disk"])
    assert done.returncode == 1
    line = done.stderr.splitlines()[0]
    assert line.startswith("lab: error: cannot write small/x.pcapng: No space left on device; ")
    assert json.loads(done.stdout)["frames"] in (1, 2, 3, 4)


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["capture", "nope"], 2, "this machine has no interface 'nope': give lo, "),
        (["capture", "veth"], 2, "veth is a link of private worlds"),
        (["capture", "lo", "-f", "icmp and"], 2, "filter 'icmp and': can't parse filter expression: syntax error"),
        (["capture", "lo", "--direction", "up"], 2, "unknown direction 'up': choose from in, out, inout"),
        (["capture", "lo", "--direction", "in", "--both-copies"], 2, "leave --direction in out"),
        (["capture", "lo", "-c", "0"], 2, "a count of 0: give 1 to"),
        (["capture", "lo", "--duration", "5"], 2, "'5' is not a duration: give a number and a unit"),
        (["capture", "lo", "--buffer", "64"], 2, "'64' is not a size: give a number and a unit"),
        (["capture", "lo", "--world", "mars"], 2, "unknown world 'mars'"),
        (["capture", "lo", "--world", "new"], 2, "use lab exec --capture FILE -- CMD"),
        (["capture", "lo", "--world", "999999999"], 1, "cannot join the network of process 999999999"),
        (["capture", "lo", "-w", "-", "--json"], 2, "both want standard output"),
        (["capture", "lo", "-w", "nowhere/x"], 1, "cannot write nowhere/x: ENOENT"),
        (["capture"], 2, "see lab capture --help"),
        (["read"], 2, "see lab read --help"),
        (["read", "nowhere"], 1, "nowhere can't be read: No such file or directory"),
        (["read", "."], 1, ". can't be read: Is a directory"),
        (["read", "text"], 1, "text is neither pcap nor pcapng; give a file"),
        (["read", "empty"], 1, "empty is no capture"),
        (["read", "good", "-f", "nonsense here"], 2, "filter 'nonsense here': "),
        (["read", "good", "--flows", "--rtts"], 2, "--flows and --rtts together: give one"),
        (["read", "good", "--flows", "-c", "3"], 2, "-c is for frames"),
        (["read", "good", "-c", "0"], 2, "a count of 0: give 1 to"),
        (["read", "good", "--transit"], 2, "--both-copies"),
        (
            ["read", "good", "-o", "nowhere/x"],
            1,
            "cannot write nowhere/x: ENOENT (No such file or directory). Name another file with -o",
        ),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(run, tmp_path, arguments, code, said):
    (tmp_path / "text").write_text("This is no capture.\n" * 10)
    (tmp_path / "empty").write_bytes(b"")
    write_pcap(tmp_path / "good", [bytes(60)])
    done = run(*arguments)
    assert said in error_line(done)
    assert (done.returncode, done.stdout) == (code, "")


def test_no_right_to_capture_on_the_host(run):
    done = run("capture", "lo", faults=("no-rights",))
    assert done.returncode == 1
    line = error_line(done)
    assert "no right to capture on this machine's own network: EPERM" in line
    assert "lab exec --capture FILE -- CMD" in line
    assert "CAP_NET_RAW" in line
    assert "setcap" not in line


def test_a_terminal_is_no_place_for_a_file(tmp_path):
    master, slave = pty.openpty()
    done = subprocess.run(
        [*LAB, "capture", "lo", "-w", "-"], cwd=tmp_path, stdout=slave, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(master)
    os.close(slave)
    assert done.returncode == 2
    assert "pipe it" in error_line(done)


# ---- read ----


def write_pcap(path, frames):
    """A pcap file of nanoseconds, little-endian; frames: bytes of Ethernet frames, a microsecond apart."""
    head = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)
    records = [
        struct.pack("<4I", 1_700_000_000, 1000 * number, len(frame), len(frame)) + frame
        for number, frame in enumerate(frames)
    ]
    path.write_bytes(head + b"".join(records))


def udp_frame(number, family):
    """A datagram of 4 bytes, its number, to port 9."""
    payload = struct.pack("!HHHHI", 1000 + number % 50_000, 9, 12, 0, number)
    address = socket.inet_pton(*FAMILIES[family])
    if family == 4:
        return bytes(12) + b"\x08\x00\x45\x00" + struct.pack("!HIBBH", 32, 0, 64, 17, 0) + 2 * address + payload
    return bytes(12) + b"\x86\xdd\x60\0\0\0" + struct.pack("!HBB", 12, 17, 64) + 2 * address + payload


def test_a_line_for_each_frame(run, tmp_path, family):
    write_pcap(tmp_path / "x.pcap", [udp_frame(number, family) for number in range(3)])
    done = run("read", "x.pcap")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    host = {4: "127.0.0.1:{}", 6: "[::1]:{}"}[family]
    for number, line in enumerate(lines):
        assert f"{host.format(1000 + number)} > {host.format(9)} udp" in line
        assert f"0.00000{number}000" in line
    assert len(lines) == 3
    assert done.stderr.startswith("3 frames, ")
    assert run("read", "x.pcap", "-c", "2").stdout.splitlines() == lines[:2]
    assert run("read", "x.pcap", "-f", "udp src port 1001").stdout.splitlines()[0].split()[4:] == lines[1].split()[4:]
    assert run("read", "x.pcap", "-f", "tcp").stdout == ""


def test_standard_input(run, tmp_path, family):
    write_pcap(tmp_path / "x.pcap", [udp_frame(0, family)])
    command = [*LAB, "read", "-", "--json"]
    with (tmp_path / "x.pcap").open() as file:
        straight = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True)
    with subprocess.Popen(["cat", tmp_path / "x.pcap"], stdout=subprocess.PIPE) as cat:
        piped = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True, check=True)
    assert json.loads(straight.stdout) == json.loads(piped.stdout)
    assert json.loads(piped.stdout)["frames"] == 1


def test_the_document_of_frames(run, tmp_path, family):
    write_pcap(tmp_path / "x.pcap", [udp_frame(number, family) for number in range(5)])
    document = json.loads(run("read", "x.pcap", "--json", "-c", "2").stdout)
    assert (document["format"], document["kind"], document["frames"]) == (1, "pcap", 5)
    assert document["dropped"] is document["lossless"] is None  # pcap does not say
    assert document["protocols"] == {"udp": 5}
    assert [row["source_port"] for row in document["rows"]] == [1000, 1001]
    assert {row["destination"] for row in document["rows"]} == {FAMILIES[family][1]}
    assert "rows" not in json.loads(run("read", "x.pcap", "--json").stdout)


def test_a_table_of_more_frames_than_are_held_at_a_time(run, tmp_path):
    count = 150_000
    write_pcap(tmp_path / "x.pcap", [udp_frame(number, 4 + number % 2 * 2) for number in range(count)])
    done = run("read", "x.pcap", "-o", "x.parquet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "table: x.parquet\n", "")
    table = pl.read_parquet(tmp_path / "x.parquet")
    assert table["number"].to_list() == list(range(1, count + 1))
    assert table["family"].to_list() == [4 + number % 2 * 2 for number in range(count)]
    assert (table["time_ns"].diff().drop_nulls() > 0).all()
    run("read", "x.pcap", "-c", "70000", "-o", "head.parquet", "--json")
    assert pl.read_parquet(tmp_path / "head.parquet").equals(table.head(70_000))


def test_a_file_that_is_cut_short_is_read_as_far_as_it_goes(run, tmp_path, family):
    write_pcap(tmp_path / "x.pcap", [udp_frame(number, family) for number in range(3)])
    whole = (tmp_path / "x.pcap").read_bytes()
    (tmp_path / "x.pcap").write_bytes(whole[:-1])
    for arguments in (["--frames"], ["--json"], ["--flows"], ["-o", "x.parquet"]):
        done = run("read", "x.pcap", *arguments)
        assert done.returncode == 1
        assert done.stdout
        assert "lab: error: 2 frames read, then: the file ends within" in done.stderr.splitlines()[-1]
    assert run("read", "x.pcap", "-c", "2").returncode == 0  # which are there


def test_what_the_frames_mean(start, run, send, world, tmp_path, family):
    process = start("lo", "--world", str(world.pid), "--both-copies", "-f", "udp", "-c", "20", "-w", "x.pcapng")
    send(10, family=family)
    assert process.wait(30) == 0
    flows = json.loads(run("read", "x.pcapng", "--flows", "--json").stdout)
    assert len(flows["flows"]) == 1
    transit = json.loads(run("read", "x.pcapng", "--transit", "--json").stdout)
    assert (transit["linked"], sum(transit["unlinked"].values())) == (10, 0)
    assert transit["transit_ns"]["min"] > 0
    done = run("read", "x.pcapng", "--transit", "-o", "x.parquet")
    assert done.stdout == "table: x.parquet\n"
    assert len(pl.read_parquet(tmp_path / "x.parquet")) == 10
    assert json.loads(run("read", "x.pcapng", "--rtts", "--json").stdout)["format"] == 1


# ---- help ----


@pytest.mark.parametrize("command", ["capture", "read"])
def test_the_help_fits_a_terminal(run, command):
    text = run(command, "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert f"Example: lab {command}" in " ".join(text.split())
