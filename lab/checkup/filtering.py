"""Which rule of a firewall stops what was tried, by what the rules themselves say."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from lab.checkup.facts import Facts
from lab.checkup.findings import Item
from lab.checkup.packets import packets_of
from lab.checkup.reaching import Attempt
from lab.checkup.rules import Rules
from lab.checkup.verdicts import Hit, hits
from lab.checkup.wording import deletion, rule_text
from lab.errors import errno_name

__all__ = ["firewall", "stopped"]

_DOES = {
    "drop": "drops",
    "reject": "rejects",
    "redirect": "redirects",
    "nat": "rewrites the address of",
    "masquerade": "rewrites the source of",
    "queue": "hands to a program",
    "tproxy": "hands to a proxy",
    "synproxy": "answers in place of the server",
    "fwd": "forwards",
}
_MAX_RULES, _MAX_PACKETS = 5, 4
_READ = "Run lab doctor as root (CAP_NET_ADMIN), or look yourself: sudo nft list ruleset, or sudo iptables -S"
_STAYS = "until it is loaded again: nftables.conf, ufw, firewalld, docker … have it in a file of theirs"


def firewall(facts: Facts, explained: bool) -> Iterator[Item]:
    """The item firewall, and one more for each further rule. explained: whether something else is to blame already."""
    failed = [each for each in facts.attempts if each.failed and each.outcome != "not-sent"]
    if facts.rules is None:
        yield _unreadable(facts, bool(failed) and not explained)
        return
    found = list(stopped(facts.rules, failed))
    yield from found
    if not found:
        looking = sum(1 for chain in facts.rules.chains.values() if chain.hook)
        what = f"none of them stops what was tried on lo: {looking} chains of nf_tables" if looking else _NO_RULES
        legacy = f"; those of iptables-legacy ({', '.join(facts.legacy)}) can't be read here" if facts.legacy else ""
        yield Item("firewall", "ok", f"{what}{legacy}")


_NO_RULES = "nf_tables has no chains here"


def stopped(rules: Rules, attempts: Iterable[Attempt]) -> Iterator[Item]:
    """An item for each rule that stops a packet that one of these attempts takes; sure ones come first."""
    met: dict[tuple[int, int | None, str], list[Hit]] = {}
    for attempt in attempts:
        for packet in packets_of(attempt):
            for hit in hits(rules, packet):
                met.setdefault((id(hit.chain), hit.rule.handle if hit.rule else None, hit.does), []).append(hit)
    ranked = sorted(met.values(), key=lambda each: not any(hit.sure for hit in each))
    for number, each in enumerate(ranked[:_MAX_RULES], 1):
        yield _item(rules, each, "firewall" if number == 1 else f"firewall-{number}")


def _item(rules: Rules, met: list[Hit], name: str) -> Item:
    hit = met[0]
    packets = list(dict.fromkeys(each.packet.what for each in met))
    more = f" and {len(packets) - _MAX_PACKETS} more" if len(packets) > _MAX_PACKETS else ""
    does = _DOES[hit.does] if any(each.sure for each in met) else f"may be what {_DOES[hit.does]}"
    where = f"{hit.chain} (hook {hit.base.hook}, priority {hit.base.priority})"
    if hit.rule is None:
        what, at = f"the policy of {where} is drop: it", ""
        fix = f"nft insert rule {hit.chain.family} {hit.chain.table} {hit.chain.name} {_let_through(hit)}"
    else:
        what, at = f"the rule “{rule_text(rules, hit.chain, hit.rule)}”", f" ({where}, handle {hit.rule.handle})"
        fix = deletion(hit.chain, hit.rule)
    evidence = f"{what} {does} {', '.join(packets[:_MAX_PACKETS])}{more}{at}"
    return Item(
        name, "denied", evidence, f"{fix}; {_STAYS}", "what it stops fails on loopback", windows=_WINDOWS, macos=_MACOS
    )


_WINDOWS = "the rules are listed by wf.msc, and by netsh advfirewall firewall show rule name=all"
_MACOS = "sudo pfctl -sr lists the rules"


def _let_through(hit: Hit) -> str:
    return "oif lo accept" if hit.base.hook in ("output", "postrouting") else "iif lo accept"


def _unreadable(facts: Facts, wanted: bool) -> Item:
    number = facts.refused or 0
    if number not in (errno.EPERM, errno.EACCES):
        return Item("firewall", "ok", f"this kernel has no nf_tables: {errno_name(number)}")
    evidence = f"the rules of nf_tables can't be read: {errno_name(number)}"
    if not wanted:
        return Item("firewall", "ok", f"what was tried on lo came through, or fails without it; {evidence}")
    hint = ""
    if any(each.errno == errno.EPERM for each in facts.attempts if each.outcome == "refused"):
        hint = "; a packet was refused as it was sent (EPERM), which only a rule for what leaves does"
    evidence += f"; lo, its addresses, routes and sysctls are well, so it is most likely a rule{hint}"
    return Item("firewall", "denied", evidence, _READ, "which rule it is isn't known")
