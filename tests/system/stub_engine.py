"""The least that a front takes for an engine, by any Python 3's own library: `stub_engine.py --socket PATH`.

It goes to hosts that have nothing but a Python, as a job's engine. Each answer is one word.
"""

from __future__ import annotations

import argparse
import http.server
import json
import socketserver


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /health, and whatever is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve what tells how the engine is."""
        self._answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        """Answer a question."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": "Yes."}
        choice = {"index": 0, "message": message, "text": "Yes.", "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "stub", "object": "chat.completion", "created": 0, "model": asked["model"]}
        self._answer(200, json.dumps({**answer, "choices": [choice], "usage": usage}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a unix socket's client has no address that could be told."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread for each connection."""

    daemon_threads = True


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    with Server(parser.parse_args().socket, Handler) as server:
        print("stub engine: ready", flush=True)
        server.serve_forever()
