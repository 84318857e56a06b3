"""The mail server itself: ``python -P -m lab.services.smtp_server ADDRESS PORT MAILDIR``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

from lab.services.renouncing import announce, renounce

__all__: list[str] = []

#: How it greets: its own name would be looked up.
_HOSTNAME = "mail.lab.test"


async def _serve(address: str, port: int, maildir: Path) -> None:
    handler = Mailbox(maildir)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, hostname=_HOSTNAME, ident="Loopback Lab"), host=address, port=port
    )
    announce()
    await server.serve_forever()


def main() -> None:
    """Takes messages until it is stopped."""
    address, port, maildir = sys.argv[1:]
    renounce()
    asyncio.run(_serve(address, int(port), Path(maildir)))


if __name__ == "__main__":
    main()
