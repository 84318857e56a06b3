"""``lab inject``, as it is typed: what it sends, prints, refuses and exits with."""

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

import pytest

LAB = [sys.executable, "-m", "lab"]
FAMILIES = {4: (socket.AF_INET, "127.0.0.1"), 6: (socket.AF_INET6, "::1")}
ETHERNET, RAW = 1, 101
PORT = 7_777
#: What the command takes for this machine's own network is then a namespace, in which we are root.
OURS = ("ping-sockets",)
DOCUMENT = {
    "format", "link", "path", "sent", "failed", "delivered", "lost", "bytes", "duration_ns", "pps", "pacing_error_ns",
    "left_out", "retried", "errors", "interrupted", "error", "warnings",
}  # fmt: skip


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(family, payload, *, near=None, far=None, source_port=5_555, port=PORT):
    """An IP packet with a UDP datagram, by default from lo to itself, with right checksums."""
    kind, host = FAMILIES[family]
    near, far = (socket.inet_pton(kind, address or host) for address in (near, far))
    size = 8 + len(payload)
    udp = struct.pack("!4H", source_port, port, size, 0) + payload
    pseudo = near + far + struct.pack("!2H", socket.IPPROTO_UDP, size)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp + bytes(size % 2)) or 0xFFFF) + payload
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, size, socket.IPPROTO_UDP, 64) + near + far + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 1, 0, 64, socket.IPPROTO_UDP, 0) + near + far
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


def on_lo(packet):
    """A packet as a frame of lo."""
    return bytes(12) + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def write_pcap(path, frames, *, link_type=ETHERNET, gap_us=0):
    """A pcap file of frames that are so far apart."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link_type))
        for number, frame in enumerate(frames):
            seconds, micros = divmod(number * gap_us, 1_000_000)
            file.write(struct.pack("<4I", 1_700_000_000 + seconds, micros, len(frame), len(frame)) + frame)


def numbered(family, count, **more):
    return [datagram(family, number.to_bytes(32, "big"), **more) for number in range(count)]


@pytest.fixture
def frames_on_lo(tmp_path):
    """Writes x.pcap: numbered datagrams to PORT of lo, as frames."""

    def write(family, count, gap_us=0):
        write_pcap(tmp_path / "x.pcap", map(on_lo, numbered(family, count)), gap_us=gap_us)

    return write


@pytest.fixture
def receiver(world):
    """Listens at PORT of lo of the world, for one family; what it has received, as numbers and source ports."""
    opened = []

    def listen(family):
        kind, host = FAMILIES[family]
        far = world.socket(kind, socket.SOCK_DGRAM)
        opened.append(far)
        far.bind((host, PORT))
        far.settimeout(30)

        def received(count):
            found = [far.recvfrom(2_048) for _ in range(count)]
            return [(int.from_bytes(data[:32], "big"), address[1]) for data, address in found]

        return received

    yield listen
    for each in opened:
        each.close()


def document(done, code=0):
    assert done.returncode == code, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert set(found) == DOCUMENT
    assert found["format"] == 1
    return found


def error_line(done):
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("lab: error: ")
    return line


# ---- what is sent ----


@pytest.mark.parametrize("link", ["lo", "veth"])
def test_every_packet_of_a_file_arrives(run, world, family, link, tmp_path):
    near, far = (getattr(world.links[link], end)[family] for end in ("near", "far"))
    write_pcap(tmp_path / "x.pcap", numbered(family, 100, near=near, far=far), link_type=RAW)
    found = document(run("inject", "x.pcap", link, "--world", "new", "--topspeed", "--json"))
    assert (found["sent"], found["delivered"], found["failed"], found["lost"]) == (100, 100, 0, 0)
    assert (found["link"], found["path"], found["pacing_error_ns"]) == (link, f"raw{family}", None)
    assert found["pps"] == pytest.approx(100 * 1e9 / found["duration_ns"], rel=1e-6)


def test_what_is_sent_is_what_a_program_receives_in_order(run, world, family, frames_on_lo, receiver):
    frames_on_lo(family, 100)
    received = receiver(family)
    done = run("inject", "x.pcap", "lo", "--world", str(world.pid), "--topspeed", "--json")
    assert document(done)["path"] == "l2"
    assert received(100) == [(number, 5_555) for number in range(100)]


def test_ipv4_goes_by_layer_3_where_lo_drops_its_frames(run, family, frames_on_lo):
    frames_on_lo(family, 10)
    done = run("inject", "x.pcap", "lo", "--topspeed", "--json", faults=OURS)
    found = document(done)
    assert (found["sent"], found["delivered"]) == (10, 10)
    assert found["path"] == {4: "raw4", 6: "l2"}[family]
    assert [("route_localnet" in text) for text in found["warnings"]] == {4: [True], 6: []}[family]


def test_what_no_program_will_get_is_sent_only_if_the_path_is_forced(run, frames_on_lo):
    frames_on_lo(4, 10)
    found = document(run("inject", "x.pcap", "lo", "--topspeed", "--path", "l2", "--json", faults=OURS))
    assert (found["sent"], found["path"]) == (10, "l2")
    (warning,) = found["warnings"]
    assert warning.startswith("sent, to reach no program: 10 of 10 frames: ")


def test_what_is_printed_fits_into_a_terminal(run, frames_on_lo):
    frames_on_lo(4, 100)
    done = run("inject", "x.pcap", "lo", "--world", "new", "--rate", "10kpps")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    assert first.startswith("100 packets sent on lo by l2 in ")
    assert second == "100 delivered, none lost"
    assert third.startswith("pacing error  p50 ")
    assert max(map(len, (first, second, third))) <= 80


def test_standard_input_is_a_file_too(world, frames_on_lo, family, tmp_path, receiver):
    frames_on_lo(family, 10)
    received = receiver(family)
    command = [*LAB, "inject", "-", "lo", "--world", str(world.pid), "--topspeed", "--json"]
    cat = subprocess.Popen(["cat", tmp_path / "x.pcap"], stdout=subprocess.PIPE)
    with cat:
        done = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True, check=False)
    assert document(done)["sent"] == 10
    assert [number for number, _port in received(10)] == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "sent"), [([], 3), (["--loop", "4"], 12), (["-c", "7"], 7), (["--count", "2"], 2)], ids=str
)
def test_how_many_are_sent(run, frames_on_lo, arguments, sent):
    frames_on_lo(4, 3)
    found = document(run("inject", "x.pcap", "lo", "--world", "new", "--json", *arguments))
    assert (found["sent"], found["delivered"]) == (sent, sent)


def test_a_duration_ends_it(run, frames_on_lo):
    frames_on_lo(4, 3)
    found = document(
        run("inject", "x.pcap", "lo", "--world", "new", "--duration", "100ms", "--rate", "1kpps", "--json")
    )
    assert 0 < found["sent"] <= 101
    assert found["sent"] == found["delivered"]
    assert not found["interrupted"]


# ---- when ----


def test_a_file_goes_out_with_its_own_timing_or_so_many_times_as_fast(run, frames_on_lo):
    frames_on_lo(4, 11, gap_us=20_000)
    own, fast = (
        document(run("inject", "x.pcap", "lo", "--world", "new", "--json", *more))
        for more in ([], ["--multiplier", "20"])
    )
    assert own["duration_ns"] >= 199_000_000
    assert fast["duration_ns"] >= 9_900_000
    assert fast["duration_ns"] < own["duration_ns"]
    for found in (own, fast):
        errors = found["pacing_error_ns"]
        assert errors["p999"] is None  # of eleven packets
        assert errors["min"] <= errors["p50"] <= errors["p90"] <= errors["p99"] <= errors["max"]


@pytest.mark.parametrize(
    "arguments",
    [["--rate", "2kpps"], ["--rate", "2kpps", "--burst", "10"], ["--rate", "1Mbit"],
     ["--rate", "2000", "--arrivals", "poisson", "--seed", "7"]],
    ids=" ".join,
)  # fmt: skip
def test_schedules(run, frames_on_lo, arguments):
    frames_on_lo(4, 10)
    found = document(run("inject", "x.pcap", "lo", "--world", "new", "-c", "100", "--json", *arguments))
    assert (found["sent"], found["delivered"]) == (100, 100)
    assert found["pacing_error_ns"]["p50"] is not None
    assert found["duration_ns"] >= 20_000_000  # 100 packets at 2,000/s take 50 ms, of 74 bytes at 1 Mbit/s 59


def test_a_rate_beyond_the_machine_is_told(run, frames_on_lo):
    frames_on_lo(4, 10)
    done = run("inject", "x.pcap", "lo", "--world", "new", "-c", "100000", "--rate", "100Mpps", "--json")
    found = document(done)
    (told,) = [text for text in found["warnings"] if " were due and " in text]
    assert f"lab: warning: {told}" in done.stderr
    assert found["sent"] == 100_000


def test_two_threads_keep_each_flow_in_order(run, world, family, tmp_path, receiver):
    flows = [numbered(family, 50, source_port=6_000 + flow) for flow in range(4)]
    write_pcap(tmp_path / "x.pcap", [on_lo(packet) for row in zip(*flows, strict=True) for packet in row])
    received = receiver(family)
    more = ["--topspeed", "--threads", "2", "--json"]
    assert document(run("inject", "x.pcap", "lo", "--world", str(world.pid), *more))["delivered"] == 200
    came = received(200)
    for flow in range(4):
        assert [number for number, port in came if port == 6_000 + flow] == list(range(50))


# ---- a packet that varies ----


def test_a_field_that_varies(run, world, family, frames_on_lo, receiver):
    frames_on_lo(family, 1)
    received = receiver(family)
    varied = ["--vary", "UDP.sport=2000-2099", "--vary", "payload[24:32]=counter"]
    found = document(run("inject", "x.pcap", "lo", "--world", str(world.pid), *varied, "--json"))
    assert (found["sent"], found["pacing_error_ns"]) == (100, None)
    assert received(100) == [(number, 2_000 + number) for number in range(100)]


def test_a_field_of_one_value_is_sent_once(run, frames_on_lo):
    frames_on_lo(4, 1)
    assert document(run("inject", "x.pcap", "lo", "--world", "new", "--vary", "UDP.sport=5", "--json"))["sent"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vary", "UDP.sport"], "--vary UDP.sport: give NAME=SPEC"),
        (["--vary", "UDP.sport=1-9", "--vary", "UDP.sport=counter"], "--vary UDP.sport twice"),
        (["--vary", "UDP.sprot=1-9"], "sprot"),
        (["--vary", "UDP.sport=often"], "often"),
        (["--vary", "UDP.sport=1-9", "--multiplier", "2"], "--multiplier is of a file's own timing"),
        (["--vary", "UDP.sport=9-99999"], "99999"),
    ],
)
def test_what_cannot_vary(run, frames_on_lo, arguments, said):
    frames_on_lo(4, 1)
    done = run("inject", "x.pcap", "lo", "--world", "new", *arguments)
    assert said in error_line(done)
    assert (done.returncode, done.stdout) == (2, "")


def test_only_one_packet_can_vary(run, frames_on_lo):
    frames_on_lo(4, 2)
    done = run("inject", "x.pcap", "lo", "--world", "new", "--vary", "UDP.sport=1-9")
    assert "--vary takes a file of one packet, and x.pcap has 2" in error_line(done)
    assert done.returncode == 2


# ---- while it goes on ----


@pytest.fixture
def start(tmp_path):
    """Starts ``lab inject …``; kills it at the end if need be."""
    started = []

    def start(*arguments, **more):
        command = ["env", "--default-signal=HUP", *LAB, "inject", *arguments]  # under nohup it is ignored
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        started.append(subprocess.Popen(command, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_what_was_sent_is_told(start, world, frames_on_lo, receiver, number):
    frames_on_lo(4, 10)
    received = receiver(4)
    process = start("x.pcap", "lo", "--world", str(world.pid), "--rate", "100", "-c", "1000000", "--json")
    received(3)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("lab: injecting 1,000,000 packets into lo by l2, at 100")
    assert "error" not in err
    found = json.loads(out)
    assert found["interrupted"]
    assert 3 <= found["sent"] == found["delivered"] < 1_000_000


def test_a_packet_that_is_due_in_an_hour_is_not_waited_for(start, world, frames_on_lo, receiver):
    frames_on_lo(4, 2, gap_us=3_600_000_000)
    received = receiver(4)
    process = start("x.pcap", "lo", "--world", str(world.pid))
    received(1)
    process.send_signal(signal.SIGINT)
    out, _err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.splitlines()[0].startswith("1 packet sent on lo by l2 ")
    assert out.splitlines()[-1] == "interrupted"


def test_number_rate_and_refusals_in_a_terminal(world, frames_on_lo, tmp_path):
    frames_on_lo(4, 10)
    master, slave = pty.openpty()
    command = [*LAB, "inject", "x.pcap", "lo", "--world", str(world.pid), "--rate", "1kpps", "-c", "1000000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave, text=True) as process:
        os.close(slave)
        shown = ""
        for text in ("injecting 1,000,000 packets", " of 1,000,000 packets, ", "/s, 0 refused"):
            while text not in shown:
                assert select.select([master], [], [], 30)[0], shown
                shown += os.read(master, 4_096).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stdout.read().endswith("interrupted\n")
    os.close(master)


#: Makes a pair of devices in the namespace it runs in, injects into one, and deletes it or takes it down meanwhile.
ON_A_DEVICE = """
import socket, subprocess, sys
from pyroute2 import IPRoute
with IPRoute() as ip:
    ip.link("add", ifname="ours", kind="veth", peer="theirs")
    for name in ("ours", "theirs"):
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
    (index,) = ip.link_lookup(ifname="ours")
    command = [sys.executable, "-m", "lab", "inject", "x.pcap", "ours", "--rate", "1kpps", "-c", "100000", "--json",
               "--allow-external", "--path", "l2"]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5)) as seen:
        seen.bind(("theirs", 0x88b5))
        inject = subprocess.Popen(command)
        seen.settimeout(30)
        seen.recv(100)
    if sys.argv[1] == "delete":
        ip.link("del", index=index)
    else:
        ip.link("set", index=index, state="down")
    sys.exit(inject.wait(30))
"""


@pytest.mark.parametrize("how", ["delete", "down"])
def test_a_link_that_goes_away_or_down_ends_it(root, tmp_path, missing, how):
    write_pcap(tmp_path / "x.pcap", [bytes(12) + b"\x88\xb5" + bytes(46)])  # an ethertype for experiments (IEEE 802)
    launch = [
        sys.executable,
        str(root / "tests" / "launch.py"),
        "ping-sockets",
        "--",
        sys.executable,
        "-c",
        ON_A_DEVICE,
    ]
    done = subprocess.run([*launch, how], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        missing(done.stderr.strip())
    found = document(done, 1)
    assert found["error"].startswith(f"after {found['sent']:,} of 100,000 packets: ours went ")
    assert f"lab: error: {found['error']}" in done.stderr
    assert 0 < found["sent"] < 100_000


# ---- bad input ----


@pytest.mark.parametrize("name", ["tun", "tap"])
def test_a_link_that_cannot_be_made_is_told_with_its_remedy(run, tmp_path, name):
    write_pcap(tmp_path / "x.pcap", [bytes(12) + b"\x88\xb5" + bytes(46)])
    done = run("inject", "x.pcap", name, "--world", "new", faults=("no-rights", "no-tun"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"lab: error: {name}: cannot make the link: open /dev/net/tun: E")
    assert "chmod 0666 /dev/net/tun" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "lo"], 1, "nowhere can't be read: No such file or directory"),
        ([".", "lo"], 1, ". can't be read: Is a directory"),
        (["text", "lo"], 1, "text is neither pcap nor pcapng"),
        (["empty", "lo"], 1, "empty is no capture"),
        (["none", "lo"], 1, "none"),
        (["x.pcap", "nope"], 2, "nope"),
        (["x.pcap", "lo", "--rate", "0"], 2, "'0' is not a rate"),
        (["x.pcap", "lo", "--rate", "fast"], 2, "'fast' is not a rate"),
        (["x.pcap", "lo", "--rate", "1Mbps"], 2, "or bits a second, such as 100Mbit"),
        (["x.pcap", "lo", "--rate", "2000Mpps"], 2, "below the clock's resolution"),
        (["x.pcap", "lo", "--rate", "1kpps", "--multiplier", "2"], 2, "--rate and --multiplier together: give one"),
        (["x.pcap", "lo", "--topspeed", "--multiplier", "2"], 2, "--multiplier and --topspeed together: give one"),
        (["x.pcap", "lo", "--multiplier", "0"], 2, "give a number above 0"),
        (["x.pcap", "lo", "--multiplier", "often"], 2, "--multiplier often: give a number"),
        (["x.pcap", "lo", "--arrivals", "poisson"], 2, "give its rate too"),
        (["x.pcap", "lo", "--arrivals", "never", "--rate", "9"], 2, "unknown arrivals 'never': choose from periodic"),
        (["x.pcap", "lo", "--burst", "5"], 2, "give its rate too"),
        (["x.pcap", "lo", "--burst", "0", "--rate", "9"], 2, "a burst of 0"),
        (["x.pcap", "lo", "--loop", "2", "-c", "3"], 2, "--count 3 and --loop 2 together: give one"),
        (["x.pcap", "lo", "--loop", "0"], 2, "a loop of 0"),
        (["x.pcap", "lo", "-c", "0"], 2, "a count of 0"),
        (["x.pcap", "lo", "--duration", "5"], 2, "'5' is not a duration"),
        (["x.pcap", "lo", "--threads", "0"], 2, "a number of threads of 0: give 1 to 64"),
        (["x.pcap", "lo", "--path", "l4"], 2, "unknown path 'l4': choose from l2, l3"),
        (["x.pcap", "lo", "--world", "mars"], 2, "unknown world 'mars'"),
        (["x.pcap", "lo", "--world", "999999999"], 1, "cannot join the network of process 999999999"),
        (["x.pcap"], 2, "see lab inject --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_with_the_remedy(run, tmp_path, frames_on_lo, arguments, code, said):
    frames_on_lo(4, 2)
    (tmp_path / "text").write_text("This is no capture.\n" * 10)
    (tmp_path / "empty").write_bytes(b"")
    write_pcap(tmp_path / "none", [])
    world = () if "--world" in arguments else ("--world", "new")
    done = run("inject", *arguments, *world)
    assert said in error_line(done)
    assert (done.returncode, done.stdout) == (code, "")


def test_a_terminal_is_no_source_of_packets():
    master, slave = pty.openpty()
    done = subprocess.run([*LAB, "inject", "-", "lo"], stdin=slave, capture_output=True, text=True, check=False)
    os.close(master)
    os.close(slave)
    assert done.returncode == 2
    assert "pipe a capture into it" in error_line(done)


def test_no_right_to_inject_on_the_host(run, frames_on_lo):
    frames_on_lo(4, 2)
    done = run("inject", "x.pcap", "lo", faults=("no-rights",))
    assert done.returncode == 1
    line = error_line(done)
    assert "EPERM" in line
    assert "--world new" in line
    assert "setcap" not in line


@pytest.mark.parametrize("far", ["198.18.255.1", "224.0.0.1", "255.255.255.255"])
def test_nothing_leaves_for_other_machines_unless_that_is_meant(run, tmp_path, far):
    write_pcap(tmp_path / "x.pcap", [datagram(4, b"", near="127.0.0.1", far=far)], link_type=RAW)
    done = run("inject", "x.pcap", "lo", faults=OURS)
    line = error_line(done)
    assert far in line
    assert "--allow-external" in line
    assert (done.returncode, done.stdout) == (2, "")


def test_a_packet_larger_than_the_mtu_is_told_and_the_rest_is_sent(run, world, tmp_path):
    near, far = (getattr(world.links["veth"], end)[4] for end in ("near", "far"))
    packets = [datagram(4, bytes(size), near=near, far=far) for size in (100, 4_000, 100)]
    write_pcap(tmp_path / "x.pcap", packets, link_type=RAW)
    done = run("inject", "x.pcap", "veth", "--world", "new", "--topspeed", "--json")
    found = document(done, 1)
    assert (found["sent"], found["delivered"]) == (2, 2)
    assert found["left_out"] + found["failed"] == 1
    (warning,) = found["warnings"]
    assert "MTU" in warning
