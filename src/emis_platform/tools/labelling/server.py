"""A pile of answers -> a page on 127.0.0.1 where they are read with the keyboard."""

import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from emis_platform.tools.labelling import desk

HERE = Path(__file__).parent
PAGE = {"": ("index.html", "text/html"), "page.js": ("page.js", "text/javascript"), "style.css": ("style.css", "text/css")}
LARGEST = 10_000
"""Bytes of a request's body."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(pile: desk.Pile, guideline: str, port: int) -> None:
    """Show the page until Ctrl-C. Raises ValueError for a port that cannot be had."""
    with server(pile, guideline, port) as made:
        print(f"{len(pile.answers)} answers at {address(made)} (Ctrl-C ends it; every reading is saved at once)", flush=True)
        try:
            made.serve_forever()
        except KeyboardInterrupt:
            print(f"\n{desk.progress(pile)} read; they are in {pile.folder}")


def server(pile: desk.Pile, guideline: str, port: int) -> ThreadingHTTPServer:
    """Bound to 127.0.0.1 (port 0: a free one) and not yet serving; `address` says where."""
    token = secrets.token_urlsafe(16)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.allowed()
            if path in PAGE:
                name, kind = PAGE[path]
                self.answer(200, (HERE / name).read_bytes(), kind)
            elif path == "pile":
                self.answer(200, shown(pile, guideline))
            elif path is not None:
                self.answer(404, {"error": "no such page"})

        def do_POST(self) -> None:
            path = self.allowed()
            if path is None:
                return
            size = self.headers.get("Content-Length", "")
            if path != "reading":
                self.answer(404, {"error": "no such page"})
            elif self.headers.get_content_type() != "application/json":
                self.answer(415, {"error": "JSON is needed"})
            elif not size.isdecimal() or int(size) > LARGEST:
                self.answer(413, {"error": f"a body of at most {LARGEST} bytes is needed"})
            else:
                try:
                    given = json.loads(self.rfile.read(int(size)))
                    desk.save(pile, int(given["place"]), [given[name] for name in desk.FIELDS])
                    self.answer(200, {"progress": desk.progress(pile)})
                except (KeyError, TypeError):
                    self.answer(400, {"error": f"place, {', '.join(desk.FIELDS)} are needed"})
                except (ValueError, OSError) as error:
                    self.answer(400, {"error": str(error)})

        def allowed(self) -> str | None:
            """The path behind the token; None if the request was turned away: a foreign name for this machine (DNS rebinding), a request
            that another site's page sent, or a wrong token."""
            here = self.server.server_address[1]
            hosts = {f"127.0.0.1:{here}", f"localhost:{here}"}
            origin = self.headers.get("Origin")
            _, given, *rest = self.path.split("/", 2) + [""]
            if self.headers.get("Host") not in hosts or (origin and origin.removeprefix("http://") not in hosts):
                self.answer(403, {"error": "this page is for this machine only"})
            elif not rest[:-1] or not secrets.compare_digest(given.encode(), token.encode()):
                self.answer(404, {"error": "no such page: open the address that the terminal shows"})
            else:
                return rest[0]
            return None

        def answer(self, code: int, body: Any, kind: str = "application/json") -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: the token is in the address."""

    try:
        made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as fault:
        raise ValueError(f"port {port} on 127.0.0.1 cannot be had: {getattr(fault, 'strerror', None) or fault}") from None
    made.daemon_threads = True
    made.token = token  # type: ignore[attr-defined]
    return made


def address(made: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{made.server_address[1]}/{made.token}/"  # type: ignore[attr-defined]


def shown(pile: desk.Pile, guideline: str) -> dict[str, Any]:
    """What the page is told: questions and answers, and the reader's own readings. Neither subject nor score leaves the desk."""
    return {
        "answers": [
            {"prompt": answer.prompt, "text": answer.text, "mine": desk.words(pile.labels.get(place))}
            for place, answer in enumerate(pile.answers)
        ],
        "letters": desk.LETTERS,
        "guideline": guideline,
        "progress": desk.progress(pile),
    }
