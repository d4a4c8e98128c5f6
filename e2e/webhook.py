"""A service that is asked over HTTP, and believes only what is signed as Standard Webhooks have it."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64encode(b"for-tests-only-for-tests-only-32").decode()
SECRET = f"whsec_{KEY}"


class Webhook(ThreadingHTTPServer):
    """Use as a context manager. `answer(request)` gives status, headers and what is said as JSON."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.answer = [], lambda request: (200, {}, request["data"])

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Whoever asked may be gone."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/ask"

    def settings(self, addresses, **more):
        """Of a gateway that asks it."""
        settings = {"addresses": addresses, "url": self.url, "secret": SECRET} | more
        return {f"webhooks.test.{key}": value for key, value in settings.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not is_signed(self.headers, body):
            return self.reply(401, {}, {"error": "not signed"})
        request = json.loads(body)
        self.server.asked.append((request, self.headers))
        self.reply(*self.server.answer(request))

    def do_GET(self):
        self.server.asked.append(("redirected", self.headers))
        self.reply(200, {}, "redirected")

    def reply(self, status, headers, said):
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in ({"content-type": "application/json", "content-length": len(body)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def is_signed(headers, body):
    id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(timestamp)) > 300:
        return False
    signed = f"{id}.{timestamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed, hashlib.sha256)).decode()
    return any(hmac.compare_digest(f"v1,{expected}", given) for given in headers["webhook-signature"].split())
