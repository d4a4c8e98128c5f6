"""Headless Chromium, and a server of pages whose origin is not the gateway's."""

import contextlib
import functools
import http.server
import shutil
import threading

from playwright.sync_api import sync_playwright

from harness import TOP

# A browser must not look for its vendor's servers where a network is closed.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
CLIENTS = TOP / "e2e" / "node" / "node_modules" / "socket.io-client" / "dist"


@contextlib.contextmanager
def chromium():
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def pages_of(directory):
    """Serves what is in the directory; gives the origin."""
    handler = functools.partial(Quiet, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
