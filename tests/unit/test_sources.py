"""The DNS server of a scene, read by scapy; and files that can't be replaced."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scapy.layers.dns import DNS, DNSQR

import lab
from lab.sayings.sources import answer_to, replace

KNOWN = {"localhost": {4: "127.0.0.1", 6: "::1"}, "shop.test": {4: "127.5.5.5"}}


def ask(name, kind):
    return DNS(answer_to(bytes(DNS(id=77, rd=1, qd=DNSQR(qname=name, qtype=kind))), KNOWN))


@pytest.mark.parametrize(
    ("name", "kind", "address"),
    [
        ("localhost", "A", "127.0.0.1"),
        ("localhost", "AAAA", "::1"),
        ("foo.LocalHost", "A", "127.0.0.1"),
        ("shop.test", "A", "127.5.5.5"),
    ],
)
def test_a_name_that_it_knows(name, kind, address):
    reply = ask(name, kind)
    assert (reply.id, reply.qr, reply.rcode, reply.ancount) == (77, 1, 0, 1)
    (record,) = reply.an
    assert (record.rdata, record.rrname, record.type) == (address, f"{name}.".encode(), {"A": 1, "AAAA": 28}[kind])
    assert reply.qd[0].qname == f"{name}.".encode()


@pytest.mark.parametrize(("name", "kind", "code"), [("shop.test", "AAAA", 0), ("localhost", "MX", 0), ("test", "A", 3)])
def test_what_it_does_not_know(name, kind, code):
    reply = ask(name, kind)
    assert (reply.qr, reply.rcode, reply.ancount) == (1, code, 0)
    assert not reply.an


@pytest.mark.parametrize("name", ["nolocalhost", "localhost.test", "xshop.test"])
def test_names_that_only_look_alike(name):
    assert ask(name, "A").rcode == 3


def test_a_file_that_is_not_there():
    scene = SimpleNamespace(files={})
    with pytest.raises(lab.Unavailable, match=r"/etc/nothing can't be replaced: .*touch /etc/nothing"):
        replace(scene, "/etc/nothing", "")
    assert not scene.files
