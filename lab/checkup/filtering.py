"""Which rule of a firewall stops what was tried, by what the rules themselves say."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from lab.checkup.facts import Facts, family_number
from lab.checkup.findings import Item
from lab.checkup.packets import packets_of
from lab.checkup.reaching import Attempt
from lab.checkup.rules import Rules
from lab.checkup.verdicts import ENDING, Hit, hits
from lab.checkup.wording import deletion, rule_text
from lab.errors import errno_name

__all__ = ["firewall", "stopped", "unreadable"]

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
_MAX_RULES, _MAX_ADDRESSES = 5, 3
_READ = "Run lab doctor as root (CAP_NET_ADMIN), or look yourself: sudo nft list ruleset, or sudo iptables -S"
_LEGACY = "Look yourself: sudo iptables-legacy -S; sudo ip6tables-legacy -S"
_STAYS = "it is back when the rules are loaded again, by whatever has them on disk (nftables.conf, ufw, firewalld …)"
_OWNED = "End the program that made this table, which goes with it (nft list ruleset names it)"
_COST = "what it stops fails on loopback"
_WINDOWS = "the rules are listed by wf.msc, and by netsh advfirewall firewall show rule name=all"
_MACOS = "sudo pfctl -sr lists the rules"


def firewall(facts: Facts) -> Iterator[Item]:
    """The item firewall, and one more for each further rule."""
    failed = [each for each in facts.attempts if each.failed and not _explained(facts, each)]
    if facts.rules is None:
        yield unreadable(facts.refused or 0, failed)
        return
    found = list(stopped(facts.rules, failed))
    yield from found
    if failed and not found and facts.legacy:
        evidence = (
            f"{failed[0]}, and no rule of nf_tables stops it: iptables-legacy has rules ({', '.join(facts.legacy)})"
        )
        yield Item("firewall", "denied", f"{evidence}, which can't be read here", _LEGACY, _COST)
    elif not found:
        looking = sum(1 for chain in facts.rules.chains.values() if chain.hook)
        what = (
            f"none of nf_tables' {looking} chains stops what was tried on lo" if looking else "nf_tables has no chains"
        )
        legacy = f"; those of iptables-legacy ({', '.join(facts.legacy)}) can't be read here" if facts.legacy else ""
        yield Item("firewall", "ok", f"{what}{legacy}")


def _explained(facts: Facts, attempt: Attempt) -> bool:
    """Whether it would have failed without any rule."""
    family = family_number(attempt.address)
    deaf = attempt.protocol == "icmp" and family in facts.ignores
    return facts.down or deaf or attempt.outcome == "not-sent" or family not in facts.families


def unreadable(number: int, failed: list[Attempt]) -> Item:
    """What can be said where the kernel doesn't tell its rules, which is no trouble unless something failed."""
    if number not in (errno.EPERM, errno.EACCES):
        return Item("firewall", "ok", f"this kernel has no nf_tables: {errno_name(number)}")
    evidence = f"the rules of nf_tables can't be read: {errno_name(number)}"
    if not failed:
        return Item("firewall", "ok", f"nothing that was tried on lo calls for one; {evidence}")
    hint = ""
    if any(each.errno == errno.EPERM for each in failed if each.outcome == "refused"):
        hint = "; a packet was refused as it was sent (EPERM), which only a rule for what leaves does"
    evidence += f"; {failed[0]}, and nothing else that is told here explains it{hint}"
    return Item("firewall", "denied", evidence, _READ, "which rule it is, if any, isn't known")


def stopped(rules: Rules, attempts: Iterable[Attempt]) -> Iterator[Item]:
    """An item for each rule that stops a packet that one of these attempts takes; sure ones come first."""
    met: dict[tuple[int, int | None, str], list[Hit]] = {}
    for attempt in attempts:
        for packet in packets_of(attempt):
            found = hits(rules, packet)
            for hit in found:
                met.setdefault((id(hit.chain), hit.rule.handle if hit.rule else None, hit.does), []).append(hit)
            if any(hit.sure and hit.does in ENDING for hit in found):
                break  # there is no answer, then
    ranked = sorted(met.values(), key=lambda each: not any(hit.sure for hit in each))
    for number, each in enumerate(ranked[:_MAX_RULES], 1):
        yield _item(rules, each, "firewall" if number == 1 else f"firewall-{number}")


def _item(rules: Rules, met: list[Hit], name: str) -> Item:
    hit = met[0]
    does = _DOES[hit.does] if any(each.sure for each in met) else f"may be what {_DOES[hit.does]}"
    where = f"{hit.chain}, hook {hit.base.hook}, priority {hit.base.priority}"
    if hit.rule is None:
        evidence = f"the policy of a chain {does} {_packets(met)}: {where}"
        way = "oif" if hit.base.hook in ("output", "postrouting") else "iif"
        fix = f"nft insert rule {hit.chain.place} {way} lo accept; {_STAYS}"
    else:
        text = rule_text(rules, hit.chain, hit.rule)
        evidence = f"the rule “{text}” {does} {_packets(met)}: {where}, handle {hit.rule.handle}"
        fix = f"{deletion(hit.chain, hit.rule)}; {_STAYS}"
    if hit.chain.owned:
        fix = _OWNED
    return Item(name, "denied", evidence, fix, _COST, windows=_WINDOWS, macos=_MACOS)


def _packets(met: list[Hit]) -> str:
    """Such as "the echo request to 127.0.0.1, 127.0.0.2"."""
    addresses: dict[str, list[str]] = {}
    for hit in met:
        addresses.setdefault(hit.packet.what, []).append(hit.packet.address)
    texts = []
    for what, several in addresses.items():
        found = list(dict.fromkeys(several))
        more = f" and {len(found) - _MAX_ADDRESSES} more" if len(found) > _MAX_ADDRESSES else ""
        texts.append(f"{what} {', '.join(found[:_MAX_ADDRESSES])}{more}")
    return " and ".join(texts)
