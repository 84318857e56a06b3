"""From what somebody typed to an address or a name; what is neither is refused in a line that says what to give."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.addresses.forms import scope
from lab.addresses.registry import IPAddress
from lab.addresses.spelling import Reading, explain, looks_numeric, readings
from lab.errors import UsageError
from lab.texts import printable

__all__ = ["Literal", "Name", "is_localhost", "parse"]

#: Octets of a name, and of each of its labels (RFC 1035, 2.3.4; the limit of 255 counts the lengths of labels too).
_MAX_NAME, _MAX_LABEL = 253, 63
#: Beyond any address or name, in any notation.
_MAX_TEXT = 1024
#: As much of it as an error repeats.
_MAX_SHOWN = 80
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?", re.ASCII)
_HOST_PORT = re.compile(r"(?:\[(?P<inner>[^\[\]]*)\]|(?P<host>[^\[\]:/]+)):(?P<port>[0-9]*)", re.ASCII)
_EXAMPLES = "give an address (127.0.0.1, ::1, 10.1.2.3/8) or a name (localhost)"


@dataclass(frozen=True)
class Literal:
    """An address that was given as one. prefix: of the network, if one was given. readings: see ``spelling``; of an
    address that all programs read alike there are none.
    """

    given: str
    address: IPAddress
    zone: str | None
    prefix: int | None
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Name:
    """A name, in ASCII (IDNA 2003, as the socket module has it), as it is looked up."""

    given: str
    name: str


def is_localhost(name: str) -> bool:
    """Whether a name is one of those that always mean this machine (RFC 6761, 6.3)."""
    return name.lower().removesuffix(".").rpartition(".")[2] == "localhost"


def parse(text: str) -> Literal | Name:
    """An address, with a zone and a prefix perhaps, or a name. Raises UsageError."""
    _refuse_the_rest(text)
    body, slash, length = text.partition("/")
    body, percent, zone = body.partition("%")
    if ":" not in body and not (body.isascii() and looks_numeric(body)):
        if slash or percent:
            raise UsageError(_shown(text, f"{body} is a name, and a prefix or zone belongs to an address; give {body}"))
        return Name(text, _ascii_name(text))
    if percent and not zone:
        raise UsageError(_shown(text, f"no zone follows the %; give {body}%INTERFACE, such as {body}%eth0"))
    if slash and (not length or not length.isascii()):
        raise UsageError(_shown(text, f"no length of a prefix follows the /; give {body}/N, such as {body}/8"))
    address, said = _ipv6(body) if ":" in body else _ipv4(text, body, slash)
    if zone and (fault := _zone_fault(address, body)):
        raise UsageError(_shown(text, f"{fault}; leave %{zone} out"))
    prefix = _prefix(text, body, length, address) if slash else None
    return Literal(text, address, zone or None, prefix, said)


def _shown(text: str, why: str) -> str:
    """A line about a text, which may hold anything."""
    return printable(f"{text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + '…'!r}: {why}")


def _refuse_the_rest(text: str) -> None:
    """Raises UsageError for what holds more or less than one address or name."""
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is no text: {_EXAMPLES}")
    if not text.strip():
        raise UsageError(f"nothing was given: {_EXAMPLES}, or leave it out for this machine's own addresses")
    if len(text) > _MAX_TEXT:
        raise UsageError(_shown(text, f"{len(text):,} characters; {_EXAMPLES}"))
    if not text.isprintable() or any(letter.isspace() for letter in text):
        raise UsageError(_shown(text, "neither addresses nor names have spaces or signs of control; " + _EXAMPLES))
    if "://" in text:
        raise UsageError(_shown(text, f"that is a URL; {_host_of(text)}"))
    if match := _HOST_PORT.fullmatch(text):
        host = match["inner"] or match["host"]
        raise UsageError(
            _shown(text, f"that is HOST:PORT; give {host}, and lab ports {match['port'] or 'PORT'} tells of a port")
        )
    if text.startswith("["):
        inner = text.strip("[]") or "::1"
        raise UsageError(_shown(text, f"brackets belong into a URL; give {inner}"))
    if "@" in text:
        raise UsageError(_shown(text, f"give the host alone, {text.rpartition('@')[2] or 'localhost'}"))


def _host_of(url: str) -> str:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return f"give its host, {host}" if host else _EXAMPLES


def _ipv6(body: str) -> tuple[IPAddress, tuple[Reading, ...]]:
    try:
        return ipaddress.IPv6Address(body), ()
    except ValueError as error:
        why = str(error).replace(f" in {body!r}", "").replace("permitted", "allowed")
        why = why[:1].lower() + why[1:]
        fix = "give up to eight groups of up to four hexadecimal digits, :: for one run of zeros, such as fe80::1"
        raise UsageError(_shown(body, f"no IPv6 address ({why}); {fix}")) from None


def _ipv4(text: str, body: str, slash: str) -> tuple[IPAddress, tuple[Reading, ...]]:
    try:
        return ipaddress.IPv4Address(body), ()
    except ValueError:
        said = readings(body)
    found = next((reading.address for reading in said if reading.address and reading.reader != "decimal"), None)
    if found is None:
        fix = "give four numbers from 0 to 255, such as 127.0.0.1"
        raise UsageError(_shown(text, f"no IPv4 address ({explain(body)}), and names don't end in a number; {fix}"))
    if slash and body.count(".") < 3:
        # ip(8) takes 10/8 for 10.0.0.0/8, where inet_aton takes 10 for 0.0.0.10.
        raise UsageError(_shown(text, "programs fill in the missing numbers at different places; give all four"))
    return ipaddress.IPv4Address(found), said


def _zone_fault(address: IPAddress, body: str) -> str | None:
    if address.version == 4:
        return "only IPv6 addresses have zones"
    if scope(address) not in ("link-local", "interface-local"):
        return f"{body} means the same on every interface, so that it has no zone (RFC 4007)"
    return None


def _prefix(text: str, body: str, length: str, address: IPAddress) -> int:
    if length.isdecimal() and len(length) <= 3 and int(length) <= address.max_prefixlen:
        return int(length)
    if address.version == 4 and "." in length and (prefix := _mask_length(length)) is not None:
        raise UsageError(_shown(text, f"give the mask as the length of the prefix, {body}/{prefix}"))
    raise UsageError(
        _shown(text, f"prefixes of IPv{address.version} are 0 to {address.max_prefixlen} bits long; give such a number")
    )


def _mask_length(mask: str) -> int | None:
    try:
        return ipaddress.IPv4Network(f"0.0.0.0/{mask}").prefixlen
    except ValueError:
        return None


def _ascii_name(text: str) -> str:
    """The name in ASCII. Raises UsageError for what can be none."""
    name = text
    if not text.isascii():
        try:
            name = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise UsageError(
                _shown(text, f"no name can be so ({_fault(text) or 'IDNA refuses it'}); {_EXAMPLES}")
            ) from None
        if looks_numeric(name):
            raise UsageError(_shown(text, f"give it in ASCII, {name}"))
    if fault := _fault(name):
        raise UsageError(_shown(text, f"no name can be so ({fault}); {_EXAMPLES}"))
    return name


def _fault(name: str) -> str | None:
    """Why a name can be none (RFC 1123, 2.1; RFC 1035, 2.3.4); underscores are let through, as libraries do."""
    bare = name.removesuffix(".")
    if len(bare) > _MAX_NAME:
        return f"{len(bare)} letters, where {_MAX_NAME} is the most"
    for label in bare.split("."):
        if not label:
            return "a part between its dots is empty"
        if len(label) > _MAX_LABEL:
            return f"a part of {len(label)} letters, where {_MAX_LABEL} is the most"
        if label.isascii() and not _LABEL.fullmatch(label):
            return f"{label} holds other signs than letters, digits and hyphens between them"
    return None
