"""Pages in Chromium: they need nothing else and complain of nothing, can be read, pointed at and unfolded."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import combinations, pairwise

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

import lab
from lab.flow.ladder.ladders import Fold, Ladder, Participant, Step
from lab.flow.pages import page as page_of

START_NS = 1_700_000_000_000_000_000
#: What is written in a ladder; each has a box of its own.
WRITTEN = ".head, .time, .gap, .state, .told, .label"
#: Where the letters of elements are that can be seen: for each element a list of [left, top, right, bottom].
BOXES = """elements => elements.filter(each => each.checkVisibility() && each.textContent.trim()).map(each => {
  const own = each.getBoundingClientRect(), range = document.createRange();
  const cut = getComputedStyle(each).overflowX === "hidden";
  range.selectNodeContents(each);
  return [...range.getClientRects()].map(box => cut
    ? [Math.max(box.left, own.left), box.top, Math.min(box.right, own.right), box.bottom]
    : [box.left, box.top, box.right, box.bottom]);
})"""


@contextmanager
def watched(browser, path):
    """A page and what it says: console messages, errors, and requests for anything but itself."""
    with browser.new_page(viewport={"width": 1280, "height": 800}) as page:
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url == path.as_uri() or said.append(request.url))
        page.goto(path.as_uri())
        yield page, said


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page that nothing may be wrong with."""

    @contextmanager
    def opened(drawn):
        with watched(browser, drawn.save(tmp_path / "page.html")) as (page, said):
            yield page
            assert said == []

    return opened


def boxes_of(page, selector):
    return page.locator(selector).evaluate_all(BOXES)


def overlapping(page, selector):
    """Pairs of elements whose letters share more than the edge of a pixel."""

    def overlap(one, other):
        return (
            min(one[2], other[2]) - max(one[0], other[0]) > 0.5 and min(one[3], other[3]) - max(one[1], other[1]) > 0.5
        )

    boxes = boxes_of(page, selector)
    assert boxes
    return [pair for pair in combinations(boxes, 2) if any(overlap(one, other) for one in pair[0] for other in pair[1])]


def overflow(page):
    """Pixels that the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.fixture
def talk(family, tmp_path):
    """A capture of a handshake, a request, a long answer of which one segment comes twice, and a reset."""
    network = IP(src="127.0.0.1", dst="127.0.0.1") if family == 4 else IPv6(src="::1", dst="::1")
    packets = []

    def send(seconds, by_client, flags, seq, ack, payload=b""):
        ports = (40_000, 80) if by_client else (80, 40_000)
        tcp = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack)
        packet = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00") / network / tcp
        packet = packet / Raw(payload) if payload else packet
        packet.time = 1_700_000_000 + seconds
        packets.append(packet)

    send(0, True, "S", 100, 0)
    send(0.001, False, "SA", 500, 101)
    send(0.002, True, "A", 101, 501)
    send(0.003, True, "PA", 101, 501, b"GET /<b>$x_1$</b> HTTP/1.1\r\n\r\n")
    for number in range(80):
        send(0.004 + number / 10_000, False, "A", 501 + 100 * number, 131, b"%100d" % number)
        send(0.00405 + number / 10_000, True, "A", 131, 601 + 100 * number)
    send(0.1, False, "A", 501, 131, b"%100d" % 0)
    send(0.2, True, "R", 131, 0)
    wrpcap(str(tmp_path / "talk.pcap"), packets)
    with lab.read(tmp_path / "talk.pcap") as capture:
        yield capture


def crowded(participants, *, rows=30, **more):
    """A ladder in which everything is as long as it gets."""
    columns = tuple(
        Participant(
            name=f"[2001:db8:1234:5678:9abc:def0:1234:{5670 + each}]:65535",
            note="a-very-long-process-name 4194304" if each % 2 else "",
            kind="device" if each == 1 else "endpoint",
        )
        for each in range(participants)
    )
    made = []
    for number in range(1, rows + 1):
        ends = number % participants, (number + 1 + number // participants % (participants - 1)) % participants
        time_ns = START_NS + number**3 * 1_000
        if number % 10 == 0:
            ways = tuple((*way, 123_456_789, 1_234_567_890) for way in (ends, ends[::-1]))
            made.append(Fold(packets=246_913_578, start_ns=time_ns, end_ns=time_ns + 1000, ways=ways))
            continue
        made.append(
            Step(
                number=123_456_000 + number,
                time_ns=time_ns,
                source=ends[0],
                target=ends[1],
                flow=12_345,
                protocol="tcp",
                title="neighbor advertisement" if number % 3 else "SYN FIN RST PSH ACK URG ECE CWR AE",
                facts=("seq 4294967295", "ack 4294967295", "len 65483"),
                payload="W" * 80 if number % 4 == 0 else "",
                marks=("retransmission", "45 segments in one frame") if number % 5 == 0 else (),
                states=("SYN-RECEIVED", "FIN-WAIT-1") if number % 2 else (None, None),
                length=65_549,
                other_copy=123_456_001,
                transit_ns=411,
            )
        )
    return Ladder(
        participants=columns, rows=tuple(made), title="much of long-name.pcapng", start_ns=START_NS,
        warnings=("a word of warning",), **more,
    )  # fmt: skip


@pytest.mark.parametrize("large", [False, True], ids=["", "large"])
@pytest.mark.parametrize("to_scale", [False, True], ids=["even", "to scale"])
@pytest.mark.parametrize("participants", [2, 3, 4, 8, 10])
def test_nothing_lies_on_anything_else(opened, participants, to_scale, large):
    with opened(crowded(participants, to_scale=to_scale, large=large)) as page:
        assert overlapping(page, WRITTEN) == []
        if participants <= 4 or (participants <= 8 and not large):
            assert overflow(page) == 0
        else:  # rather than letters that nobody can read
            assert overflow(page) > 0


def test_a_real_ladder_fits_too(opened, talk):
    with opened(talk.ladder(packets=20)) as page:
        assert overlapping(page, WRITTEN) == []
        assert overflow(page) == 0


def panel(page):
    """The text of what lies uppermost at the bottom of the window."""
    return page.evaluate("""() => document.elementFromPoint(30, window.innerHeight - 10).closest(".panel").innerText""")


def test_pointing_at_a_packet_tells_all_of_it(opened, talk):
    ladder = talk.ladder(packets=20)
    with opened(ladder) as page:
        assert "Point at a packet" in panel(page)
        for number in (0, 1, 3, len(ladder.steps) - 1):
            step = ladder.steps[number]
            shown = page.locator(".body > ol > .step").nth(number)
            shown.locator(".label").hover()
            text = panel(page).split()
            known = (*step.title.split(), str(step.number), *step.payload.split(), f"{step.time_ns % 10**9:09}")
            assert [word for word in known if not any(word in each for each in text)] == []
            assert page.locator(".step > .panel:visible").count() == 1
        page.mouse.move(5, 5)
        assert "Point at a packet" in panel(page)


def test_the_keyboard_goes_from_packet_to_packet_and_none_is_covered(opened, talk):
    ladder = talk.ladder(packets=20)
    with opened(ladder) as page:
        page.locator("#even").focus()
        seen = []
        while len(seen) < len(ladder):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            if "step" in (focused.get_attribute("class") or ""):
                seen.append(int(panel(page).split("frame")[1].split()[0]))
                row, below = focused.bounding_box(), focused.locator(".panel").bounding_box()
                assert row["y"] + row["height"] <= below["y"] + 1
            else:
                assert focused.evaluate("each => each.tagName") == "SUMMARY"
                seen.append(None)
        assert seen == [row.number if isinstance(row, Step) else None for row in ladder]


def test_a_click_keeps_a_packet_while_others_are_pointed_at(opened, talk):
    with opened(talk.ladder(packets=20)) as page:
        steps = page.locator(".step .label:visible")
        steps.nth(1).click()
        steps.nth(2).hover()
        assert panel(page).startswith("SYN ACK")
        page.locator("h1").click()
        steps.nth(0).hover()
        assert panel(page).startswith("SYN\n")


@pytest.mark.parametrize("key", [None, "Enter"], ids=["click", "keyboard"])
def test_a_fold_unfolds_and_its_packets_can_be_pointed_at(opened, talk, key):
    ladder = talk.ladder(packets=20)
    fold = next(row for row in ladder if isinstance(row, Fold))
    with opened(ladder) as page:
        inside = page.locator("details .step")
        assert inside.count() == len(fold.steps) > 100
        assert not inside.first.is_visible()
        summary = page.locator("summary")
        summary.press(key) if key else summary.click()
        assert inside.first.is_visible()
        assert overlapping(page, WRITTEN) == []
        inside.nth(40).locator(".label").hover()
        assert f"frame\n{fold.steps[40].number}\n" in panel(page).replace("\n\n", "\n")


def test_distances_are_times_at_the_flick_of_a_switch(opened, talk):
    ladder = talk.ladder(packets=20)
    with opened(ladder) as page:
        assert page.locator(".true:visible").count() == 0
        page.get_by_text("time to scale").click()
        assert page.locator(".arrow:visible").count() == 0
        arrows = page.locator(".true > .shaft").evaluate_all("all => all.map(each => each.getBoundingClientRect().top)")
        first, last = ladder.steps[0].time_ns, ladder.steps[-1].time_ns
        due = [(step.time_ns - first) / (last - first) for step in ladder.steps]
        assert [(y - arrows[0]) / (arrows[-1] - arrows[0]) for y in arrows] == pytest.approx(due, abs=0.002)
        labels = [boxes[0][1] for boxes in boxes_of(page, ".body > ol > li .time")]
        distances = [below - above for above, below in pairwise(labels)]
        assert distances == pytest.approx([sum(distances) / len(distances)] * len(distances), abs=1)
        page.locator(".step .label").nth(3).hover()
        assert "GET /<b>$x_1$</b> HTTP/1.1" in panel(page)


def test_what_is_shown_can_be_searched_and_printed(opened, talk):
    with opened(talk.ladder(packets=20)) as page:
        assert page.evaluate("window.find('GET /<b>$x_1$')")
        page.emulate_media(media="print")
        assert page.locator(".panel:visible, input:visible").count() == 0
        assert page.locator(".label:visible").count() >= 10
        assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("large", [False, True], ids=["", "large"])
def test_a_field_of_an_anatomy_its_bytes_and_its_meaning_point_at_each_other(opened, talk, large):
    with opened(lab.anatomy(talk[3], large=large)) as page:
        assert overflow(page) == 0
        assert page.locator(".panels dl:visible").count() == 0
        label = page.locator(".diagram .name:has-text('dport')")
        (field,) = set(label.get_attribute("class").split()) - {"name"}
        for shown in (label, page.locator(f".dump .{field}")):
            shown.hover()
            assert page.locator(".panels dl:visible").inner_text().startswith("TCP.dport")
            lit = page.locator(f".dump .{field}").evaluate("each => getComputedStyle(each).backgroundColor")
            assert lit == "rgb(255, 233, 138)"
            page.mouse.move(1, 1)


def test_the_solution_of_an_exercise_has_to_be_unfolded(opened, talk):
    with opened(lab.anatomy(talk[3]).blank("TCP.dport")) as page:
        solution = page.locator("details :text('dport')").first
        assert not solution.is_visible()
        page.locator("summary").click()
        assert solution.is_visible()


def test_two_anatomies_fit_beside_each_other(opened, talk):
    left, right = (packet / Raw(bytes(56)) for packet in (talk[0], talk[1]))  # which is long when it is written
    with opened(lab.anatomy(left).beside(right)) as page:
        assert overflow(page) == 0
        assert overlapping(page, ".pairs td, .pairs th") == []
        assert {len(lines) for lines in boxes_of(page, ".pairs td:last-child")} == {1}


def test_a_script_or_a_picture_from_elsewhere_would_be_stopped_and_seen(browser, tmp_path):
    """The policy of our pages holds, and what these tests watch for is noticed."""
    path = tmp_path / "page.html"
    body = "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/picture.png' alt=''>"
    path.write_text(page_of("ours", body))
    with watched(browser, path) as (page, said):
        assert page.title() == "ours"
        stopped_script, stopped_picture, asked_for = said
        assert "inline script violates" in stopped_script
        assert "Loading the image 'http://127.0.0.1:9/picture.png' violates" in stopped_picture
        assert asked_for == "http://127.0.0.1:9/picture.png"


# ---- claims ----


def test_claims_with_their_evidence(world, opened, tmp_path):
    """A block a claim, and its capture to download, which is the file as it was kept."""
    found = lab.claims("range", "hops-ttl", evidence=tmp_path / "evidence")
    with opened(found) as page:
        assert page.locator("section").count() == len(found)
        assert overflow(page) <= 0
        assert overlapping(page, "td, dt, dd") == []
        section = page.locator("#range-source")
        assert "ping 127.50.50.50" in section.locator("td").all_inner_texts()
        section.locator("summary").click()
        with page.expect_download() as downloaded:
            section.locator("a[download]").click()
        kept = (tmp_path / "evidence/range-source.pcapng").read_bytes()
        assert downloaded.value.suggested_filename == "range-source.pcapng"
        assert downloaded.value.path().read_bytes() == kept
        assert len(lab.read(downloaded.value.path())) == found["range-source"].frames
