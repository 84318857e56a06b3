"""Rules of a firewall: what can be said, and how it is told."""

from __future__ import annotations

import pytest

import lab
from lab import FirewallRule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (FirewallRule(), "input: drop"),
        (FirewallRule(device="lo", over="100Mbit"), 'input: iifname "lo" limit rate over 12500000 bytes/second drop'),
        (FirewallRule(protocol="icmp", verdict="reject"), "input: meta l4proto icmp reject"),
        (FirewallRule(family=6, hook="output", device="lo"), 'output: meta nfproto ipv6 oifname "lo" drop'),
        (
            FirewallRule(protocol="tcp", port=80, destination="127.0.0.1", verdict="tcp-reset"),
            "input: ip daddr 127.0.0.1 tcp dport 80 reject with tcp reset",
        ),
        (
            FirewallRule(protocol="udp", port=53, source="2001:2::/48", device="veth", verdict="accept"),
            'input: iifname "veth" ip6 saddr 2001:2::/48 udp dport 53 accept',
        ),
        (
            FirewallRule(protocol="tcp", port=80, hook="output", verdict=("redirect", 8080)),
            "output: tcp dport 80 redirect to :8080",
        ),
    ],
)
def test_a_rule_tells_itself_as_nft_would(rule, text):
    assert str(rule) == text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"verdict": "ignore"}, "unknown verdict 'ignore': choose from drop"),
        ({"hook": "ingress"}, "unknown hook 'ingress'"),
        ({"family": 5}, "unknown family 5"),
        ({"protocol": "sctp"}, "unknown protocol 'sctp'"),
        ({"port": 80}, "port 80 of what\\?"),
        ({"port": 80, "protocol": "icmp"}, "port 80 of what\\?"),
        ({"port": 0, "protocol": "tcp"}, "a port of 0: give 1 to 65,535"),
        ({"verdict": "tcp-reset"}, "only TCP is answered by a reset"),
        ({"verdict": "redirect", "protocol": "tcp", "hook": "output"}, "say where to"),
        ({"verdict": ("redirect", 80), "protocol": "tcp"}, "at the hook prerouting or output"),
        ({"verdict": ("redirect",)}, "give a word, or \\('redirect', PORT\\)"),
        ({"verdict": ("drop", 5)}, "give a word, or"),
        ({"verdict": None}, "unknown verdict 'None'"),
        ({"verdict": "reject", "hook": "postrouting"}, "give 'reject' at output"),
        ({"device": "a-name-of-sixteen"}, "its name has 1 to 15 bytes"),
        ({"device": ""}, "its name has 1 to 15 bytes"),
        ({"over": "4bit"}, "give a byte a second"),
        ({"destination": "localhost"}, "'localhost' is no address or prefix"),
        ({"over": "fast"}, "'fast' is not a rate"),
        ({"family": 4, "destination": "::1"}, "of one IP version"),
        ({"source": "127.0.0.1", "destination": "::1"}, "of one IP version"),
    ],
)
def test_a_rule_that_cannot_be(options, said):
    with pytest.raises(lab.UsageError, match=said):
        FirewallRule(**options)


def test_a_firewall_is_for_private_worlds(monkeypatch):
    from lab.firewall import firewall

    class Host:
        kind = "host"

    with pytest.raises(lab.UsageError, match="never into a network that is there already"):
        firewall(FirewallRule(), world=Host())
