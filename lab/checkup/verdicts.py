"""What the rules of nf_tables make of a packet: each expression is carried out as the kernel's own machine does.

A rule can ask for what isn't known before a packet is sent (its checksum, a rate, a match of iptables): then it *may*
match. So a packet meets hits that are sure, and hits that may be.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field

from lab.checkup.packets import NEW, Bytes, Packet
from lab.checkup.rules import Chain, Expression, Rule, Rules, Verdict

__all__ = ["ENDING", "Hit", "hits"]

#: What a packet on lo passes, on its way out and in: hooks, and whether it is leaving.
_WAY = (
    ("output", True),
    ("postrouting", True),
    ("egress", True),
    ("ingress", False),
    ("prerouting", False),
    ("input", False),
)
_NFPROTO = {4: 2, 6: 10}
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_ARPHRD_LOOPBACK = 772
_REGISTERS_BYTES = 64
#: Expressions that neither take anything nor decide.
_SILENT = {"counter", "log", "notrack", "objref", "last", "dup", "flow_offload"}
#: The attribute that names the register into which an expression takes something.
_INTO = dict.fromkeys(("meta", "ct", "payload", "exthdr", "fib", "rt", "numgen", "osf", "xfrm"), 1)
_INTO |= dict.fromkeys(("bitwise", "byteorder", "hash", "socket", "tunnel"), 2)
#: Expressions that change where the packet goes.
_LEADING = {"redir": "redirect", "nat": "nat", "masq": "masquerade", "tproxy": "tproxy", "fwd": "fwd"}
#: And those that end it, or let a program decide.
_DOING = {**_LEADING, "reject": "reject", "synproxy": "synproxy", "queue": "queue"}
#: What ends a packet.
ENDING = ("drop", "reject")
#: Targets of iptables that end a packet.
_TARGETS = {"DROP": "drop", "REJECT": "reject"}
_MAX_DEPTH = 16  # NFT_JUMP_STACK_SIZE


@dataclass(frozen=True)
class Hit:
    """A rule, or the policy of a chain (rule is None), that stops a packet or leads it elsewhere.

    does: drop, reject, redirect … sure: whether it is certain that the packet gets there and matches.
    """

    chain: Chain
    rule: Rule | None
    does: str
    sure: bool
    packet: Packet
    base: Chain


def hits(rules: Rules, packet: Packet, device: str = "lo", index: int = 1) -> list[Hit]:
    """What stops a packet on its way out of and into this machine by `device`, up to the first that surely does."""
    found: list[Hit] = []
    for hook, leaving in _WAY:
        for chain in rules.at(packet.family, hook, device):
            if chain.kind == "nat" and packet.state != NEW:
                continue  # only the first packet of a connection is asked for
            walk = _Walk(rules, packet, chain, device.encode(), index, leaving)
            end = walk.chain(chain, 0)
            if end is None and chain.policy == "drop":
                walk.hit(chain, None, "drop", True)
                end = "drop" if not walk.doubt else None
            found += walk.found
            if end == "drop" and not walk.doubt:
                return found
    return found


@dataclass
class _Walk:
    """One packet at one hook. doubt: whether a rule that may have matched would have ended it before."""

    rules: Rules
    packet: Packet
    base: Chain
    device: bytes
    index: int
    leaving: bool
    doubt: bool = False
    found: list[Hit] = field(default_factory=list)

    def hit(self, chain: Chain, rule: Rule | None, does: str, sure: bool) -> None:
        self.found.append(Hit(chain, rule, does, sure and not self.doubt, self.packet, self.base))

    def chain(self, chain: Chain, depth: int) -> str | None:
        """Ends with drop or accept, or with None: whoever led here goes on, at the end by the policy."""
        if depth > _MAX_DEPTH:
            self.doubt = True
            return None
        for rule in chain.rules:
            matches, does, verdict = self._rule(chain, rule)
            if matches is False or (does is None and verdict is None):
                continue
            end = self._decide(chain, rule, matches is True, does, verdict, depth)
            if end == "return":
                return None
            if end is not None:
                return end
        return None

    def _decide(
        self, chain: Chain, rule: Rule, sure: bool, does: str | None, verdict: Verdict | None, depth: int
    ) -> str | None:
        """What a rule that matches, surely or not, makes of the packet: drop, accept, return, or None to go on."""
        if does is None and verdict and verdict.name in ("jump", "goto"):
            target = self.rules.chains.get((chain.family, chain.table, verdict.chain))
            before = self.doubt
            self.doubt = before or not sure
            end = self.chain(target, depth + 1) if target else None
            if not sure:
                self.doubt = True
                return None
            return end or ("return" if verdict.name == "goto" else None)
        name = does or (verdict.name if verdict else "continue")
        if name in ENDING or name in _LEADING.values():
            self.hit(chain, rule, name, sure)
            end = "drop" if name in ENDING else "accept"
        elif name in ("accept", "return"):
            end = name
        elif name in ("queue", "synproxy"):  # a program decides, or the kernel in the name of the one that is asked
            self.hit(chain, rule, name, False)
            self.doubt = True
            return None
        else:
            return None
        if sure:
            return end
        self.doubt = True
        return None

    def _rule(self, chain: Chain, rule: Rule) -> tuple[bool | None, str | None, Verdict | None]:
        """Whether it matches (None: it may), and what it does: that, or a verdict."""
        registers: list[int | None] = [0] * _REGISTERS_BYTES
        matches: bool | None = True
        for expression in rule.expressions:
            name = expression.name
            if name in _SILENT:
                continue
            if name in _DOING:
                return matches, _DOING[name], None
            if name == "target":
                target = expression.text(1)
                return matches, _TARGETS.get(target), Verdict("accept") if target == "ACCEPT" else None
            if name == "immediate":
                verdict = expression.verdict(2)
                if verdict:
                    return matches, None, verdict
                _store(registers, expression.number(1), tuple(expression.data(2)))
                continue
            if name == "lookup" and 3 in expression.parts and expression.number(3) == 0:
                known, verdict = self._mapped(chain, expression, registers)
                return (None if matches is None or not known else True), None, verdict
            holds = self._step(chain, expression, registers)
            if holds is False:
                return False, None, None
            if holds is None:
                matches = None
        return matches, None, None

    def _step(self, chain: Chain, expression: Expression, registers: list[int | None]) -> bool | None:
        """Takes, changes or compares: False ends the rule, None says that it can't be told."""
        name = expression.name
        if name == "cmp":
            value = expression.data(3)
            return _compare(_load(registers, expression.number(1), len(value)), expression.number(2), tuple(value))
        if name == "range":
            first, last = expression.data(3), expression.data(4)
            taken = _load(registers, expression.number(1), len(first))
            if None in taken:
                return None
            return (tuple(first) <= taken <= tuple(last)) == (expression.number(2) == 0)
        if name == "lookup":
            return self._in_set(chain, expression, registers)
        if name not in _INTO:  # limit, quota, match (of iptables) …
            return None
        if _INTO[name] in expression.parts:  # else it changes the packet
            found = self._taken(expression, registers)
            _store(registers, expression.number(_INTO[name]), (None,) * 16 if found is None else found)
        return True

    def _taken(self, expression: Expression, registers: list[int | None]) -> Bytes | None:
        """What an expression takes out of the packet, or makes of what was taken; None if that can't be told."""
        name = expression.name
        if name == "meta":
            return self._meta(expression.number(2))
        if name == "ct" and expression.number(2) == 0:
            return tuple(struct.pack("=I", self.packet.state))
        if name == "payload":
            header = {1: self.packet.network, 2: self.packet.transport}.get(expression.number(2))
            at, size = expression.number(3), expression.number(4)
            return None if header is None or at + size > len(header) else header[at : at + size]
        if name == "bitwise" and expression.number(6) == 0:
            mask, xor = expression.data(4), expression.data(5)
            taken = _load(registers, expression.number(1), len(mask))
            return tuple(_masked(*each) for each in zip(taken, mask, xor, strict=True))
        if name == "byteorder":
            size, length = expression.number(5), expression.number(4)
            taken = _load(registers, expression.number(1), length)
            turn = -1 if sys.byteorder == "little" else 1
            return tuple(byte for at in range(0, length, size) for byte in taken[at : at + size][::turn])
        return None

    def _meta(self, key: int) -> Bytes | None:
        """NFT_META_*: what the kernel knows of the packet, in its own byte order where that is a number."""
        name, nobody = self.device.ljust(16, b"\0"), bytes(16)
        index, none = struct.pack("=I", self.index), bytes(4)
        known: dict[int, bytes] = {
            1: struct.pack("!H", _ETHERTYPE[self.packet.family]),
            3: bytes(4),  # mark
            4: none if self.leaving else index,
            5: index if self.leaving else none,
            6: nobody if self.leaving else name,
            7: name if self.leaving else nobody,
            8: struct.pack("=H", _ARPHRD_LOOPBACK),
            9: struct.pack("=H", _ARPHRD_LOOPBACK),
            15: bytes([_NFPROTO[self.packet.family]]),
            16: bytes([self.packet.protocol]),
            17: bytes(16),
            18: bytes(16),
            19: bytes(1),  # PACKET_HOST
        }
        return tuple(known[key]) if key in known else None

    def _in_set(self, chain: Chain, expression: Expression, registers: list[int | None]) -> bool | None:
        elements = self._elements(chain, expression)
        if elements is None:
            return None
        inverted = bool(expression.number(5) & 1)
        answers = [_within(_load(registers, expression.number(2), len(low)), low, high) for low, high, _ in elements]
        if True in answers:
            return not inverted
        return None if None in answers else inverted

    def _mapped(self, chain: Chain, expression: Expression, registers: list[int | None]) -> tuple[bool, Verdict | None]:
        """The verdict of the element that the key is in, if any, and whether that is known."""
        elements = self._elements(chain, expression)
        if elements is None:
            return False, None
        known = True
        for low, high, verdict in elements:
            within = _within(_load(registers, expression.number(2), len(low)), low, high)
            if within:
                return known, verdict
            known = known and within is False
        return known, None

    def _elements(self, chain: Chain, expression: Expression) -> tuple[tuple[bytes, bytes, Verdict | None], ...] | None:
        found = self.rules.sets.get((chain.family, chain.table, expression.text(1)))
        return found.elements if found else None


def _place(register: int) -> int:
    """Where a register starts: 1 to 4 have 16 bytes, 8 to 23 have 4 (NFT_REG_*, NFT_REG32_*)."""
    return 16 * (register - 1) if register < 8 else 4 * (register - 8)


def _load(registers: list[int | None], register: int, size: int) -> Bytes:
    at = _place(register)
    return tuple(registers[at : at + size])


def _store(registers: list[int | None], register: int, value: Bytes) -> None:
    at = _place(register)
    padded = (*value, *(0 for _ in range(-len(value) % 4)))
    registers[at : at + len(padded)] = padded
    del registers[_REGISTERS_BYTES:]


def _masked(taken: int | None, mask: int, xor: int) -> int | None:
    """A byte of which nothing is left is known."""
    if mask == 0:
        return xor
    return None if taken is None else (taken & mask) ^ xor


def _compare(taken: Bytes, operator: int, value: Bytes) -> bool | None:
    """Byte by byte, as memcmp does. Operators: ==, !=, <, <=, >, >=."""
    pairs = zip(taken, value, strict=True)
    if None in taken:
        differs = any(one is not None and one != other for one, other in pairs)
        return {0: False, 1: True}.get(operator) if differs else None
    if operator > 1:
        less, same = taken < value, taken == value
        return (less, less or same, not (less or same), not less)[operator - 2]
    return (taken == value) == (operator == 0)


def _within(taken: Bytes, low: bytes, high: bytes) -> bool | None:
    if low == high:
        return _compare(taken, 0, tuple(low))
    if None in taken:
        return None
    return tuple(low) <= taken <= tuple(high)
