"""An HTTP server on loopback that serves a folder with ranges, and fails on demand."""

import contextlib
import hashlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

FAULTS = ("reset", "stall", "short body", "503")


class FaultyServer(ThreadingHTTPServer):
    """Serves the files of a folder; the next requests fail as `faults` says, in order."""

    daemon_threads = True
    block_on_close = False

    upstream = 0

    def __init__(self, folder: Path, handler: type["Handler"]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.folder = folder
        self.faults: list[str] = []
        self.plan: Callable[[int], str] = lambda number: ""
        """The fault of a request, by its number."""
        self.requests: list[str] = []
        """Method and range of every request."""
        self.stall = 3.0
        self.ranges = True
        self.delay = 0.0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that gave up are no fault of the server's."""


class Answer(NamedTuple):
    """What a server answers when nothing fails."""

    status: int
    headers: dict[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits for its headers' receipt, 40 ms

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        with self.server.lock:
            self.server.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            fault = self.server.faults.pop(0) if self.server.faults else ""
            fault = fault or self.server.plan(len(self.server.requests))
        time.sleep(self.server.delay)
        if fault == "stall":
            time.sleep(self.server.stall)
        if fault == "reset" and not body:
            self.close_connection = True
            return
        status, headers, data = Answer(503, {}, b"") if fault == "503" else self.found()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        if fault in ("reset", "short body"):
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def found(self) -> Answer:
        """A file of the folder, or a part of it."""
        path = self.server.folder / self.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            return Answer(404, {}, b"")
        data = path.read_bytes()
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match", tag) != tag:
            return Answer(412, {}, b"")
        ranges = self.server.ranges
        headers = {"ETag": tag, "Accept-Ranges": "bytes" if ranges else "none"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or not ranges:
            return Answer(200, headers, data)
        return Answer(206, headers, data[int(asked[1]) : int(asked[2]) + 1])

    def log_message(self, *args: object) -> None:
        """Nothing."""


class Forwarding(Handler):
    """Asks another server, whose answers then fail on demand."""

    def found(self) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=20)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        data = answer.read()
        headers = {name: value for name, value in answer.getheaders() if name != "Connection"}
        connection.close()
        return Answer(answer.status, headers, data)


@contextlib.contextmanager
def serving(
    folder: Path, upstream: int | None = None, handler: type[Handler] = Handler
) -> Iterator[FaultyServer]:
    """A server of a folder, or one that forwards to a port of this machine."""
    server = FaultyServer(folder, handler if upstream is None else Forwarding)
    server.upstream = upstream or 0
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
