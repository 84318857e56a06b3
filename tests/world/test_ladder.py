"""Ladders of real traffic of every kind, against tshark's view of the same file."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flow_traffic import ZONE, Way, say

import lab
from lab.errors import CaptureError, UsageError
from lab.flow.ladder.ladders import Fold, Ladder, Step

#: Rows enough for every packet of these captures.
ALL = 1000
LINKS = ("lo", "veth")
LOSSY, SHUFFLED = "loss=3%,delay=1ms,seed=5", "delay=2ms,reorder=20%,seed=3"
MANY = 1_000_000

Row = dict[str, list[str]]


# ---- what tshark says ----

FIELDS = (
    "frame.number", "frame.len", "ip.src", "ip.dst", "ip.id", "ip.len", "ip.flags.mf", "ip.frag_offset", "ipv6.src",
    "ipv6.dst", "ipv6.plen", "ipv6.fraghdr.ident", "ipv6.fraghdr.more", "ipv6.fraghdr.offset", "tcp.stream",
    "tcp.srcport", "tcp.dstport", "tcp.flags", "tcp.seq", "tcp.ack", "tcp.len", "tcp.options.mss_val", "udp.srcport",
    "udp.dstport", "udp.length", "icmp.type", "icmp.code", "icmp.ident", "icmp.seq", "icmpv6.type", "icmpv6.code",
    "icmpv6.echo.identifier", "icmpv6.echo.sequence_number", "data.len", "vlan.id", "dns.qry.name", "dns.qry.type",
    "dns.flags.response", "dns.resp.type", "dns.a", "dns.aaaa", "dns.cname", "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission", "tcp.analysis.spurious_retransmission", "tcp.analysis.out_of_order",
    "tcp.analysis.zero_window", "tcp.analysis.zero_window_probe", "tcp.analysis.keep_alive",
    "tcp.analysis.duplicate_ack",
)  # fmt: skip
#: What tshark's analysis calls a mark of ours.
ANALYSIS = {
    "retransmission": ("retransmission", "fast_retransmission", "spurious_retransmission"),
    "out of order": ("out_of_order",),
    "zero window": ("zero_window",),
    "window probe": ("zero_window_probe",),
    "keep-alive": ("keep_alive",),
    "duplicate ACK": ("duplicate_ack",),
}
#: In the order in which they are told (RFC 9293, 3.1).
FLAGS = {"SYN": 0x02, "FIN": 0x01, "RST": 0x04, "PSH": 0x08, "ACK": 0x10, "URG": 0x20, "ECE": 0x40, "CWR": 0x80}
#: ICMP types, by version: of echoes, and of the error that says that nobody is at a port.
ECHOES = {4: {8: "echo request", 0: "echo reply"}, 6: {128: "echo request", 129: "echo reply"}}
PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
DNS_TYPES = {"1": "A", "5": "CNAME", "28": "AAAA"}


@pytest.fixture
def printed(tool) -> Callable[..., list[Row]]:
    """What tshark prints of the frames that match a display filter: lists of texts, of outer headers first."""

    def printed(path: Path, only: str) -> list[Row]:
        command = [tool("tshark"), "-n", "-r", path, "-Y", only, "-T", "fields", "-E", "aggregator=|"]
        command += ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
        command += [each for name in FIELDS for each in ("-e", name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        lines = (line.split("\t") for line in done.stdout.splitlines())
        return [
            {name: text.split("|") if text else [] for name, text in zip(FIELDS, line, strict=True)} for line in lines
        ]

    return printed


def first(row: Row, *fields: str) -> str | None:
    """The first value of those fields that a frame has."""
    return next((row[field][0] for field in fields if row[field]), None)


def ends(row: Row, *, ports: tuple[str, str] = ("srcport", "dstport")) -> tuple[str, ...]:
    """Source and destination, as a ladder names them. ports: the fields that have theirs."""
    found = []
    for end, name in zip(("src", "dst"), ports, strict=True):
        address, port = first(row, f"ip.{end}", f"ipv6.{end}"), first(row, f"tcp.{name}", f"udp.{name}")
        place = f"[{address}]" if ":" in address else address
        found.append(f"{place}:{port}" if port else address)
    return tuple(found)


def segment_by_tshark(row: Row) -> tuple:
    """Number, ends, title, facts and marks of a TCP segment."""
    flags = int(first(row, "tcp.flags"), 16)
    facts = [f"seq {first(row, 'tcp.seq')}"]
    facts += [f"ack {first(row, 'tcp.ack')}"] if flags & FLAGS["ACK"] else []
    facts += [f"MSS {mss}" for mss in row["tcp.options.mss_val"]]
    facts += [f"len {length}" for length in row["tcp.len"] if length != "0"]
    marks = {ours for ours, theirs in ANALYSIS.items() if any(row[f"tcp.analysis.{each}"] for each in theirs)}
    marks |= {"reset"} if flags & FLAGS["RST"] else set()
    title = " ".join(name for name, bit in FLAGS.items() if flags & bit)
    return int(first(row, "frame.number")), ends(row), title, tuple(facts), marks


def by_us(ladder: Ladder) -> list[tuple]:
    """The same of the steps of a ladder."""
    names = [each.name for each in ladder.participants]
    told = {*ANALYSIS, "reset"}
    return [
        (step.number, (names[step.source], names[step.target]), step.title, step.facts, told & {*step.marks})
        for step in rows_of(ladder)
    ]


def rows_of(ladder: Ladder) -> list[Step]:
    """Its rows, of which none is a fold."""
    assert ladder.folded == 0
    return list(ladder.steps)


def flows_of(capture: lab.taps.captures.Capture, protocol: str) -> list[int]:
    return capture.flows().to_polars().filter(protocol=protocol)["flow"].to_list()


# ---- TCP ----


def explained(seen: Iterable[tuple[int, int]], acked_all: bool, closed: bool, theirs: tuple, ours: tuple) -> bool:
    """Whether two views of a segment differ in what can be told in two ways only.

    seen: the bytes that its sender had sent before, from and to, as relative numbers; equal for what has none.
    acked_all: it acknowledges all that the other side has sent. closed: that has no room, as it said last.

    To tshark a segment below the highest number is "out of order" if it comes within the round trip of the handshake,
    even if its bytes were seen already; here it is a retransmission then. Of bytes that were not seen, nobody can tell;
    and if nothing but a bare acknowledgement has overtaken them, nothing is told here. An acknowledgement of all there
    is is no duplicate ACK (RFC 5681, 2). Linux probes a closed window by the same segment as it keeps a connection
    alive.
    """
    if theirs[:4] != ours[:4]:
        return False
    facts = dict(fact.split() for fact in ours[3])
    begin, end = int(facts["seq"]), int(facts["seq"]) + int(facts.get("len", 0))
    repeated = any(low < end and begin < high for low, high in seen)
    differ = theirs[4] ^ ours[4]
    if differ == {"out of order", "retransmission"}:
        return "retransmission" in ours[4] or not repeated
    if differ in ({"out of order"}, {"retransmission"}) and differ <= theirs[4]:
        return not repeated and any(begin < low == high for low, high in seen)
    if differ == {"keep-alive", "window probe"}:
        return closed and "window probe" in ours[4]
    return differ == {"duplicate ACK"} and differ <= theirs[4] and acked_all


def compare(path: Path, rows: list[Row]) -> None:
    """Asserts that the ladders of all TCP conversations of a file show what tshark does."""
    streams = sorted({int(first(row, "tcp.stream")) for row in rows})
    with lab.read(path) as capture:
        flows = flows_of(capture, "tcp")
        assert len(flows) == len(streams) > 0
        for stream, flow in zip(streams, flows, strict=True):
            theirs = [segment_by_tshark(row) for row in rows if first(row, "tcp.stream") == str(stream)]
            sent: dict[tuple[str, ...], list[tuple[int, int]]] = {}
            closed: dict[tuple[str, ...], bool] = {}
            for their, our in zip(theirs, by_us(capture.ladder(flow, packets=ALL)), strict=True):
                facts = dict(fact.split() for fact in our[3])
                peer = sent.get(our[1][::-1], [])
                acked_all = int(facts.get("ack", 0)) >= max((end for _begin, end in peer), default=0)
                mine = sent.setdefault(our[1], [])
                shut = closed.get(our[1][::-1], False)
                assert their == our or explained(mine, acked_all, shut, their, our), (their, our)
                closed[our[1]] = "zero window" in our[4]
                mine.append((int(facts["seq"]), int(facts["seq"]) + int(facts.get("len", 0))))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("tcp", None),
        ("closed_by_server", None),
        ("half_closed", None),
        ("refused", "reset"),
        ("reset", "reset"),
        ("many", None),
        ("bulk", None),
        ("timed_out", "retransmission"),
        ("gap", "duplicate ACK"),
        ("full", "zero window"),
        ("idle", "keep-alive"),
    ],
)
def test_tcp_is_what_tshark_sees(recorded, printed, family, name, mark, link):
    path = recorded(name, link, family)
    compare(path, printed(path, "tcp"))
    with lab.read(path) as capture:
        steps = rows_of(capture.ladder(flows_of(capture, "tcp")[0], packets=ALL))
    marks = {each for step in steps for each in step.marks}
    assert mark in marks if mark else not marks & {*ANALYSIS, "reset"}


@pytest.mark.parametrize(("impair", "end"), [(LOSSY, "near"), (LOSSY, "far"), (SHUFFLED, "far")])
def test_what_a_bad_link_does_is_what_tshark_sees(recorded, printed, family, impair, end):
    path = recorded("bulk", "veth", family, impair=impair, where=f"{end}:veth")
    compare(path, printed(path, "tcp"))
    with lab.read(path) as capture:
        steps = rows_of(capture.ladder(flows_of(capture, "tcp")[0], packets=ALL))
    marks = {mark for step in steps for mark in step.marks}
    assert "duplicate ACK" in marks
    if end == "near":  # all that was lost was seen before
        assert "retransmission" in marks
        assert "out of order" not in marks
    else:
        assert marks & {"retransmission", "out of order"}


def test_a_frame_of_several_segments_is_told(recorded, family):
    with lab.read(recorded("bulk", "veth", family)) as capture:
        steps = rows_of(capture.ladder(flows_of(capture, "tcp")[0], packets=ALL))
    mss = int(steps[1].facts[-1].removeprefix("MSS ")) - 12  # TCP timestamps take 12 bytes
    large = [step for step in steps if any("segments in one frame" in mark for mark in step.marks)]
    assert large
    for step in large:
        length = int(step.facts[-1].removeprefix("len "))
        assert f"{-(-length // mss)} segments in one frame" in step.marks


# ---- without TCP ----


@pytest.mark.parametrize("link", LINKS)
def test_pings_are_what_tshark_sees(recorded, printed, family, link):
    path = recorded("echo", link, family)
    wanted = []
    for row in printed(path, "icmp" if family == 4 else "icmpv6.type in {128, 129}"):
        title = ECHOES[family][int(first(row, "icmp.type", "icmpv6.type"))]
        ident = int(first(row, "icmp.ident", "icmpv6.echo.identifier"), 0)
        facts = (f"id {ident}", f"seq {first(row, 'icmp.seq', 'icmpv6.echo.sequence_number')}", "len 56")
        wanted.append((int(first(row, "frame.number")), ends(row), title, facts, set()))
    with lab.read(path) as capture:
        (flow,) = [flow for flow in capture.flows().to_polars().iter_rows(named=True) if flow["icmp_id"] is not None]
        ladder = capture.ladder(flow["flow"])
    assert by_us(ladder) == wanted
    assert [(step.source, step.target) for step in rows_of(ladder)] == [(0, 1), (1, 0)] * 3


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", ["udp", "closed_udp"])
def test_udp_and_its_errors_are_what_tshark_sees(recorded, printed, family, name, link):
    path = recorded(name, link, family)
    wanted = []
    for row in printed(path, "udp"):
        number = int(first(row, "frame.number"))
        if kind := first(row, "icmp.type", "icmpv6.type"):
            assert (int(kind), int(first(row, "icmp.code", "icmpv6.code"))) == PORT_UNREACHABLE[family]
            back = ends(row, ports=("dstport", "srcport"))  # of the quoted packet, which went the other way
            wanted.append((number, back, "port unreachable", (), set()))
        else:
            wanted.append((number, ends(row), "UDP", (f"len {int(first(row, 'udp.length')) - 8}",), set()))
    assert len(wanted) == (4 if name == "udp" else 2)
    with lab.read(path) as capture:
        assert by_us(capture.ladder(*flows_of(capture, "udp"))) == wanted


@pytest.mark.parametrize("link", LINKS)
def test_dns_says_what_tshark_reads(recorded, printed, family, link):
    path = recorded("dns", link, family)
    wanted = []
    for row in printed(path, "dns"):
        (name,), (kind,) = row["dns.qry.name"], row["dns.qry.type"]
        values = {kind: iter(row[f"dns.{kind.lower()}"]) for kind in DNS_TYPES.values()}
        kinds = [DNS_TYPES[number] for number in row["dns.resp.type"]]
        answers = [f"{kind} {next(values[kind])}{'.' if kind == 'CNAME' else ''}" for kind in kinds]
        wanted.append(", ".join(answers) if answers else f"{DNS_TYPES[kind]}? {name}.")
    with lab.read(path) as capture:
        payloads = [step.payload for step in rows_of(capture.ladder(*flows_of(capture, "udp")))]
    assert payloads[:-1] == wanted[:-1]
    assert payloads[-1] == f"{wanted[-1]} name-error"
    assert len(payloads) == 2 * len(ZONE)


def test_fragments_are_what_tshark_sees(recorded, printed, family):
    path = recorded("fragments", "veth", family)
    wanted = []
    for row in printed(path, "ip.flags.mf == 1 or ip.frag_offset > 0 or ipv6.fraghdr"):
        begin = 8 * int(first(row, "ip.frag_offset", "ipv6.fraghdr.offset"))
        size = int(first(row, "ip.len")) - 20 if family == 4 else int(first(row, "ipv6.plen")) - 8
        more = first(row, "ip.flags.mf", "ipv6.fraghdr.more") in ("1", "True")
        ident = int(first(row, "ip.id", "ipv6.fraghdr.ident"), 0)
        facts = (
            f"IP id {ident}",
            f"bytes {begin} to {begin + size - 1}",
            "more follow" if more else "the last",
        )
        wanted.append((int(first(row, "frame.number")), "fragment" if begin else "UDP fragment", facts))
    assert len(wanted) == 6
    with lab.read(path) as capture:
        steps = rows_of(capture.ladder(*flows_of(capture, "udp")))
    assert [(step.number, step.title, step.facts) for step in steps] == wanted
    assert [(step.source, step.target) for step in steps] == [(0, 1)] * 3 + [(1, 0)] * 3


# ---- captures that are not whole ----


@pytest.mark.parametrize("link", LINKS)
def test_a_capture_begun_in_mid_connection(world, printed, family, wait_until, tmp_path, link):
    way = Way(world, link, family, wait_until)
    path = tmp_path / "late.pcapng"
    with way.pair() as (near, far):
        say(near, far, b"before")
        with way.record(file=path, filter="tcp"):
            say(near, far, b"while")
            say(far, near, b"it lasts")
            near.shutdown(socket.SHUT_WR)
            way.reach(near, "FIN-WAIT-2")
    compare(path, printed(path, "tcp"))
    with lab.read(path) as capture:
        steps = rows_of(capture.ladder())
    assert [step.states for step in steps if any(step.states)] == [
        ("FIN-WAIT-1", "CLOSE-WAIT"),
        (None, "FIN-WAIT-2"),
    ]


def test_frames_that_are_cut_are_shown_and_marked(recorded, printed, tool, family, tmp_path):
    whole, cut = recorded("tcp", "veth", family), tmp_path / "cut.pcapng"
    subprocess.run([tool("editcap"), "-s", "90", whole, cut], check=True)
    compare(cut, printed(cut, "tcp"))
    with lab.read(whole) as before, lab.read(cut) as after:
        steps = [rows_of(capture.ladder(*flows_of(capture, "tcp"))) for capture in (before, after)]
    assert [step.facts for step in steps[0]] == [step.facts for step in steps[1]]
    assert [("cut to 90" in step.marks) for step in steps[1]] == [step.length > 90 for step in steps[0]]
    assert any(step.length > 90 for step in steps[0])


def test_both_copies_are_one_arrow_or_two(world, family, wait_until):
    way = Way(world, "lo", family, wait_until)
    with way.record(both_copies=True, filter="tcp") as capture, way.pair() as (near, far):
        say(near, far, b"twice")
    transit = capture.transit().to_polars()
    folded, unfolded = capture.ladder(packets=ALL), capture.ladder(packets=ALL, both_copies=True)
    assert len(folded) * 2 == len(unfolded) == len(capture)
    assert [step.transit_ns for step in rows_of(folded)] == transit["transit_ns"].to_list()
    for step in rows_of(folded):
        assert bytes(capture[step.number - 1]) == bytes(capture[step.other_copy - 1])
        assert step.transit_ns == int((capture[step.number - 1].time - capture[step.other_copy - 1].time) * 10**9)
    (device,) = (column for column, each in enumerate(unfolded.participants) if each.kind == "device")
    assert unfolded.participants[device].name == "lo"
    assert all((step.target == device) != (step.source == device) for step in unfolded.steps)
    assert sorted(step.number for step in unfolded.steps) == list(range(1, len(capture) + 1))


def test_a_vlan_is_told(world, family, printed, wait_until, tmp_path):
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Dot1Q, Ether

    way = Way(world, "veth", family, wait_until)
    path = tmp_path / "vlan.pcapng"
    ip = (IP if family == 4 else IPv6)(src=way.near, dst=way.far)
    frame = Ether(dst="02:00:00:00:00:02") / Dot1Q(vlan=7) / ip / UDP(sport=1000, dport=2000) / b"tagged"
    with way.record(file=path, filter="vlan") as capture:
        with world.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
            tap.sendto(bytes(frame), ("veth", 0))
        wait_until(lambda: len(capture) == 1, "it was seen")
    (row,) = printed(path, "udp")
    with lab.read(path) as capture:
        (step,) = rows_of(capture.ladder())
    assert step.facts == (f"len {int(first(row, 'udp.length')) - 8}", f"vlan {first(row, 'vlan.id')}")


def test_a_capture_with_no_conversation_is_refused(world, wait_until):
    from scapy.layers.l2 import ARP, Ether

    with world.capture("veth", filter="arp") as capture, world.socket(socket.AF_PACKET, socket.SOCK_RAW) as tap:
        tap.sendto(bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="198.18.3.9")), ("veth", 0))
        wait_until(lambda: len(capture) > 0, "it was seen")
    with pytest.raises(CaptureError, match="no conversation"):
        capture.ladder()


# ---- many ----


def test_of_many_connections_some_are_shown_and_any_can_be_asked_for(recorded, family):
    with lab.read(recorded("many", "lo", family)) as capture:
        ladder = capture.ladder(packets=ALL)
        assert len(ladder.participants) == 6  # a server and five of its six clients
        assert any(text.startswith("1 more conversation") for text in ladder.warnings)
        assert {step.flow for step in ladder.steps} == set(range(5))
        assert [step.number for step in ladder.steps] == sorted(step.number for step in ladder.steps)
        asked = capture.ladder(5, 2, packets=ALL)
        assert {step.flow for step in asked.steps} == {2, 5}
        with pytest.raises(UsageError, match="no conversation 6"):
            capture.ladder(6)


def test_what_does_not_fit_is_folded_and_counted(recorded, family):
    with lab.read(recorded("full", "lo", family)) as capture:
        (flow,) = flows_of(capture, "tcp")
        whole, folded = (capture.ladder(flow, packets=rows) for rows in (ALL, 40))
        told = capture.flows().to_polars().row(flow, named=True)
    assert len(folded) <= 40
    assert folded.folded + len(folded.steps) == len(whole.steps) > 40
    folds = [row for row in folded if isinstance(row, Fold)]
    assert all(fold.packets > 1 and fold.start_ns <= fold.end_ns for fold in folds)
    numbers = {step.number for step in folded.steps} | {step.number for fold in folds for step in fold.steps}
    assert len(numbers) <= len(whole.steps)
    carried = sum(count for fold in folds for *_ends, count in fold.ways)
    shown = sum(int(fact[4:]) for step in folded.steps for fact in step.facts if fact.startswith("len "))
    assert carried + shown == told["payload_to_server"] + told["payload_to_client"]
    marks = [{mark for step in each.steps for mark in step.marks} for each in (whole, folded)]
    assert "zero window" in marks[0] & marks[1]


def test_a_million_packets_are_folded(world, family, wait_until):
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6

    way = Way(world, "lo", family, wait_until)
    with way.server(socket.SOCK_DGRAM) as far:
        ip = (IP if family == 4 else IPv6)(src=way.near, dst=way.far)
        packet = ip / UDP(sport=40_000, dport=far.getsockname()[1]) / b"one of many"
        with way.record(filter="udp", direction="in", buffer="512MiB") as capture:
            assert world.inject(packet, "lo", loop=MANY, tell=lambda _text: None).sent == MANY
    assert len(capture) == MANY
    ladder = capture.ladder()
    assert len(ladder) <= 40
    assert ladder.folded + len(ladder.steps) == MANY
