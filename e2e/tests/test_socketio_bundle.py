"""The client for browsers, served where Socket.IO's own server has it."""

import pytest

from api import http
from harness import TOP

DIST = TOP / "e2e" / "node" / "node_modules" / "socket.io-client" / "dist"
NAMES = [f"socket.io{kind}.js" for kind in ("", ".min", ".esm.min", ".msgpack.min")]
ORIGINS = {"http.allowed_origins": "https://app.example"}


@pytest.fixture
def serving(start_gateway):
    return start_gateway(settings={"socketio.client_bundle": DIST} | ORIGINS)


def test_the_package_s_files_are_served(serving):
    for name in NAMES + [f"{name}.map" for name in NAMES]:
        answer = http("GET", f"{serving.url}/socket.io/{name}")
        assert (answer.status, answer.body) == (200, (DIST / name).read_bytes()), name
        kind = "application/json" if name.endswith(".map") else "text/javascript; charset=utf-8"
        assert answer.headers["content-type"] == kind
        known = http("GET", f"{serving.url}/socket.io/{name}", if_none_match=f'"x", W/{answer.headers["etag"]}')
        assert (known.status, known.body, known.headers["etag"]) == (304, b"", answer.headers["etag"])


def test_only_the_package_s_files_are_served(serving):
    url = f"{serving.url}/socket.io"
    head = http("HEAD", f"{url}/socket.io.js")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == (DIST / "socket.io.js").stat().st_size
    for path in ("package.json", "../package.json", "%2e%2e/package.json"):
        assert http("GET", f"{url}/{path}").status == 404
    assert http("POST", f"{url}/socket.io.js").status == 405


def test_pages_of_other_origins(serving):
    url = f"{serving.url}/socket.io/socket.io.esm.min.js"
    allowed = http("GET", url, origin="https://app.example")
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert http("GET", url, origin="https://evil.example").problem == (403, "forbidden_origin")
    assert 'fanfare_handshakes_total{result="forbidden_origin"}' not in metrics(serving)


def test_without_the_package(gateway):
    answer = http("GET", f"{gateway.url}/socket.io/socket.io.js")
    assert answer.problem == (404, "not_found")
    assert "socketio.client_bundle" in answer.json["detail"]


def test_a_directory_without_it_is_a_mistake(start_gateway, tmp_path):
    with pytest.raises(AssertionError, match="78"):
        start_gateway(settings={"socketio.client_bundle": tmp_path})
    assert "socketio.client_bundle" in (tmp_path / "gateway" / "log").read_text()


def metrics(gateway):
    return http("GET", f"{gateway.admin_url}/metrics").body.decode()
