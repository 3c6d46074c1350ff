"""A server on this machine that serves one file, and misbehaves as it is told."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALL_S = 3.0


@dataclass
class Misbehaviour:
    """What an answer does wrong; each answer takes the next one, after the last all is well."""

    status: int = 0
    redirect: str = ""
    length: int | None = None  # the Content-Length that is stated
    stated: bool = True  # whether a length is stated at all
    stop_after: int | None = None  # bytes of the body before the connection closes
    stall_after: int | None = None  # bytes of the body before nothing more comes
    trickle_after: int | None = None  # bytes of the body before the rest comes at 200 bytes a second
    tag: str | None = None
    ranges: bool = True
    encoding: str = ""


@dataclass
class FileServer:
    """Serves `content` at every path; `ranges` lists what was asked for, in order."""

    content: bytes
    tag: str = '"one"'
    answers: list[Misbehaviour] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    conditions: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/model.ckpt"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted, condition = request.headers.get("Range"), request.headers.get("If-Range")
        self.ranges.append(wanted)
        self.conditions.append(condition)
        wrong = self.answers.pop(0) if self.answers else Misbehaviour()
        tag = self.tag if wrong.tag is None else wrong.tag
        if wrong.status or wrong.redirect:
            self._bare(request, wrong)
            return
        body = self.content
        start = 0
        if wanted and wrong.ranges and condition == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        if tag:
            request.send_header("ETag", tag)
        if wrong.encoding:
            request.send_header("Content-Encoding", wrong.encoding)
        if wrong.stated:
            request.send_header(
                "Content-Length", str(len(body) - start if wrong.length is None else wrong.length)
            )
        request.end_headers()
        self._send(request, body[start:], wrong)

    def _bare(self, request: BaseHTTPRequestHandler, wrong: Misbehaviour) -> None:
        request.send_response(wrong.status or 302)
        if wrong.redirect:
            request.send_header("Location", wrong.redirect)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, wrong: Misbehaviour) -> None:
        request.close_connection = True
        if wrong.stop_after is not None:
            request.wfile.write(body[: wrong.stop_after])
        elif wrong.trickle_after is not None:
            request.wfile.write(body[: wrong.trickle_after])
            for start in range(wrong.trickle_after, wrong.trickle_after + 600, 10):
                request.wfile.write(body[start : start + 10])
                time.sleep(0.05)
        elif wrong.stall_after is not None:
            request.wfile.write(body[: wrong.stall_after])
            request.wfile.flush()
            time.sleep(STALL_S)
        else:
            request.wfile.write(body)


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                server.answer(self)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.port = http.server_port
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def never(pauses: list[float]) -> Callable[[float], None]:
    """A sleep that only notes how long it should have been."""
    return pauses.append
