#!/usr/bin/env python3
"""The guestbook's web tier: keeps messages in Redis and serves them as JSON. Standard library only.

GET  /api/messages   -> {"messages": [...], "served_by": "<pod>"}
POST /api/messages   <- the message as plain text, 1 to 500 characters
GET  /healthz        -> 200 when this process answers
GET  /readyz         -> 200 when Redis answers too, else 503
"""

import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIS = (os.environ.get("REDIS_HOST", "redis"), int(os.environ.get("REDIS_TCP_PORT", "6379")))
PASSWORD = os.environ.get("REDIS_PASSWORD", "")
MESSAGES_MAX = 100


def redis(*commands):
    """Sends the commands on one connection and returns their answers."""
    if PASSWORD:
        commands = (("AUTH", PASSWORD), *commands)
    with socket.create_connection(REDIS, timeout=2) as connection, connection.makefile("rb") as answers:
        for command in commands:
            words = [str(word).encode() for word in command]
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return [read_answer(answers) for _ in commands]


def read_answer(answers):
    line = answers.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:]
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if kind == b"$":
        size = int(rest)
        return None if size < 0 else answers.read(size + 2)[:-2].decode()
    if kind == b"*":
        return [read_answer(answers) for _ in range(int(rest))]
    raise RuntimeError(rest.decode() or "the connection to Redis ended")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code, value):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, {"ok": True})
        if self.path not in ("/readyz", "/api/messages"):
            return self.answer(404, {"error": f"no such page: {self.path}"})
        try:
            messages = redis(("LRANGE", "messages", 0, MESSAGES_MAX - 1))[-1]
        except (OSError, RuntimeError) as error:
            return self.answer(503, {"error": f"Redis at {REDIS[0]}:{REDIS[1]}: {error}"})
        self.answer(200, {"messages": messages, "served_by": socket.gethostname()})

    def do_POST(self):
        if self.path != "/api/messages":
            return self.answer(404, {"error": f"no such page: {self.path}"})
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 < size <= 2000:
            return self.answer(400, {"error": "a message has 1 to 500 characters"})
        message = self.rfile.read(size).decode(errors="replace").strip()[:500]
        if not message:
            return self.answer(400, {"error": "a message has 1 to 500 characters"})
        try:
            redis(("LPUSH", "messages", message), ("LTRIM", "messages", 0, MESSAGES_MAX - 1))
        except (OSError, RuntimeError) as error:
            return self.answer(503, {"error": f"Redis at {REDIS[0]}:{REDIS[1]}: {error}"})
        self.answer(201, {"ok": True, "served_by": socket.gethostname()})

    def log_message(self, format, *args):
        if self.path not in ("/healthz", "/readyz"):
            print(f"{self.address_string()} {format % args}", flush=True)


def main():
    server = ThreadingHTTPServer(("", int(os.environ.get("LISTEN_PORT", "8080"))), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"guestbook: serving on port {server.server_port}, messages in Redis at {REDIS[0]}:{REDIS[1]}", flush=True)
    server.serve_forever()
    print("guestbook: asked to end, bye", flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
