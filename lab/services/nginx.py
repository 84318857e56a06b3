"""nginx: a web server with one page, and a small answer in JSON."""

from __future__ import annotations

import signal
from pathlib import Path

from lab.services.order import Order, Program, executable

__all__ = ["Nginx"]

_FIX = "Install it (apt install nginx-light on Debian and Ubuntu, nginx on Fedora)"
_TITLE = "A page on loopback"
_PAGE = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{_TITLE}</title></head>
<body><h1>{_TITLE}</h1><p>It came from this very machine.</p></body></html>
"""
#: One process that listens and one that serves; whatever nginx would keep elsewhere goes to its folder.
_SETTINGS = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
  types {{ text/html html; }}
  access_log /dev/stdout;
  server_tokens off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {where};
    root {folder};
    location = / {{ try_files /page.html =404; }}
    location = /favicon.ico {{ return 204; }}
    location = /status {{ default_type application/json; return 200 '{{"status": "ok"}}'; }}
    location / {{ return 404; }}
  }}
}}
"""


class Nginx(Program):
    """GET / gives a page, GET /status gives JSON."""

    port = 8080

    def __init__(self) -> None:
        self._nginx = executable("nginx", what="nginx", fix=_FIX)

    def order(self, folder: Path, address: str, port: int) -> Order:
        where = f"[{address}]:{port} ipv6only=on" if ":" in address else f"{address}:{port}"
        settings = folder / "nginx.conf"
        return Order(
            folder=str(folder),
            files={str(settings): _SETTINGS.format(folder=folder, where=where), str(folder / "page.html"): _PAGE},
            command=[self._nginx, "-p", str(folder), "-c", str(settings), "-e", "stderr"],
            stops=[signal.SIGQUIT, signal.SIGTERM],  # graceful, fast
        )

    def ready(self, folder: Path) -> bool:
        """It writes its number when it listens (ngx_init_cycle, then ngx_create_pidfile)."""
        try:
            return bool((folder / "nginx.pid").read_text().strip())
        except FileNotFoundError:
            return False
