"""Serves one page to this machine alone."""

import http.server
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Names by which a browser on this machine asks; another is a page elsewhere that was given our address.
HERE = ("127.0.0.1", "localhost")


def make_server(page: Path) -> http.server.ThreadingHTTPServer:
    """Returns a server of a page at a free port of the loopback address, which no other machine reaches.

    It answers `/` with the page as it is on disk at that time, and everything else with 404.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Host", "").partition(":")[0]
            if self.path != "/" or asked not in HERE:
                self.send_error(404)
                return
            try:
                content = page.read_bytes()
            except OSError:
                self.send_error(404, "the page is no longer there")
                return
            self.send_response(200)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(content))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the terminal is the user's."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            # A browser that leaves before it has all is no error.
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)

    return Server((HERE[0], 0), Handler)


def serve(page: Path, tell: Callable[[str], None]) -> None:
    """Serves a page until Ctrl-C.

    Args:
        page: the file.
        tell: is called with the address.
    """
    with make_server(page) as server:
        tell(f"http://{HERE[0]}:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
