"""What only a browser does: pages, origins, and socket.io-client as a page loads it."""

import shutil

import pytest

from browser import CLIENTS, chromium, pages_of
from harness import FANFARE, Gateway, secret, token

EMPTY = "<!doctype html><title>page</title>"
# What a page does with socket.io-client: it keeps what happens, in `told`.
CONNECT = """([url, options]) => {
  window.told = [];
  window.socket = io(url, { forceNew: true, ...options });
  const keep = (...what) => told.push(what);
  socket.on('connect', () => keep('connect', socket.id));
  socket.on('connect_error', (error) => keep('connect_error', error.message));
  socket.on('disconnect', (reason) => keep('disconnect', reason));
  socket.onAny((...event) => keep('event', ...event.map((it) => it instanceof ArrayBuffer ? [...new Uint8Array(it)] : it)));
}"""
HAPPENED = "(what) => told.find((it) => what.every((part, at) => JSON.stringify(it[at]) === JSON.stringify(part)))"
ASK = "(event) => socket.timeout(5000).emitWithAck(...event)"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser):
    with browser.new_context() as context:
        context.set_default_timeout(15_000)
        yield context


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """An application's own, with the clients that it loads."""
    directory = tmp_path_factory.mktemp("pages")
    (directory / "index.html").write_text(EMPTY)
    for client in CLIENTS.glob("*.min.js"):
        shutil.copy(client, directory)
    with pages_of(directory) as origin:
        yield origin


@pytest.fixture
def gateway(start_gateway, origin):
    return start_gateway(settings={"http.allowed_origins": f'["{origin}"]'})


class Development(Gateway):
    """`fanfare dev`, which serves a page."""

    def command(self):
        return [FANFARE, "dev", "--listen", self.public, "--admin-listen", self.admin]

    def environment(self):
        return {"JWT_SECRET": secret()}


@pytest.fixture
def development(processes, tmp_path):
    return processes(Development(tmp_path))


@pytest.fixture
def page(context, origin):
    """page(client): a page of the application, with this build of socket.io-client."""

    def page(client="socket.io.min.js"):
        page = context.new_page()
        page.goto(origin)
        page.add_script_tag(url=f"{origin}/{client}")
        return page

    return page


def connect(page, gateway, user="alice", **options):
    page.evaluate(CONNECT, [gateway.url, {"auth": {"token": token(user)}} | options])


def happens(page, *what):
    """Waits for it; what is told in the end."""
    return page.wait_for_function(HAPPENED, arg=list(what)).json_value()


def done(page, *event):
    answer = page.evaluate(ASK, list(event))
    assert answer["ok"] is True, answer


# The page that a gateway serves

def visit(context, gateway, user):
    page = context.new_page()
    page.goto(f"{gateway.url}/#token={token(user)}")
    page.get_by_text(f"connected as {user}", exact=True).wait_for()
    assert "token" not in page.url
    return page


def shows(page, channel, text):
    page.get_by_role("listitem").filter(has_text=channel).filter(has_text=text).wait_for()


def test_what_one_page_publishes_both_receive(context, development):
    pages = [visit(context, development, user) for user in ("ann", "bob")]
    for page in pages:
        page.get_by_label("channel").fill("demo:browser")
        page.get_by_role("button", name="Subscribe").click()
        shows(page, "demo:browser", "subscribed")
    pages[0].get_by_label("data, JSON or text").fill('{"text":"Grüße"}')
    pages[0].get_by_role("button", name="Publish").click()
    for page in pages:
        shows(page, "demo:browser", '{"text":"Grüße"}')


def test_the_page_comes_back_when_the_gateway_does(context, development):
    page = visit(context, development, "ann")
    development.stop()
    page.get_by_text("disconnected").wait_for()
    development.start()
    page.get_by_text("connected as ann", exact=True).wait_for()


# socket.io-client


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids="+".join)
@pytest.mark.parametrize("credentials", [False, True], ids=["", "with credentials"])
def test_a_page_of_an_allowed_origin_is_served(gateway, page, unique, transports, credentials):
    page = page()
    connect(page, gateway, transports=transports, withCredentials=credentials)
    happens(page, "connect")
    page.wait_for_function("(name) => socket.io.engine.transport.name === name", arg=transports[-1])
    channel = f"room:{unique}"
    done(page, "subscribe", channel)
    done(page, "publish", {"channel": channel, "data": {"text": "Grüße"}})
    happens(page, "event", "message", {"text": "Grüße"})


def test_a_page_sends_and_receives_bytes(gateway, page, unique):
    page, channel = page(), f"room:{unique}"
    connect(page, gateway)
    happens(page, "connect")
    done(page, "subscribe", channel)
    page.evaluate("(channel) => socket.emit('publish', { channel }, new Uint8Array([0, 1, 255]))", channel)
    happens(page, "event", "message", [0, 1, 255])


def test_the_build_with_msgpack_is_served(gateway, page, unique):
    page, channel = page("socket.io.msgpack.min.js"), f"room:{unique}"
    connect(page, gateway)
    happens(page, "connect")
    done(page, "subscribe", channel)
    done(page, "publish", {"channel": channel, "data": {"text": "Grüße"}})
    happens(page, "event", "message", {"text": "Grüße"})


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_a_page_of_another_origin_is_turned_away(start_gateway, page, transport):
    gateway, page = start_gateway(settings={"http.allowed_origins": '["https://app.example"]'}), page()
    connect(page, gateway, transports=[transport])
    happens(page, "connect_error")


def test_a_page_comes_back_when_the_gateway_does(gateway, page, unique):
    page = page()
    connect(page, gateway, reconnectionDelay=50, reconnectionDelayMax=200)
    happens(page, "connect")
    gateway.stop()
    happens(page, "disconnect")
    page.evaluate("told.length = 0")
    gateway.start()
    happens(page, "connect")
