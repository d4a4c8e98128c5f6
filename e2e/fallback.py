"""Clients that have no WebSocket, made of Python's own HTTP."""

import http.client
import json
import urllib.parse

from api import http as request

DEADLINE = 5


class Events:
    """An event stream, read as the specification of EventSource says."""

    def __init__(self, gateway, *channels, token=None, last_event_id=None, query=(), **headers):
        query = urllib.parse.urlencode([("channel", channel) for channel in channels] + list(query))
        if token:
            headers["authorization"] = f"Bearer {token}"
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.gateway = gateway
        self.connection = http.client.HTTPConnection(gateway.public, timeout=DEADLINE)
        self.connection.request("GET", f"/v1/sse?{query}", headers=headers)
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.last_event_id, self.retry, self.comments = last_event_id, None, 0
        if self.status == 200:
            self.connected = self.expect("connected")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.response.close()
        self.connection.close()

    def header(self, name):
        return self.response.getheader(name)

    def next(self):
        """The next event as (type, object); None at the end."""
        event, data = "message", []
        while line := self.response.readline():
            line = line.decode().removesuffix("\n")
            assert "\r" not in line
            if not line:
                if data:
                    return event, json.loads("\n".join(data))
                event = "message"
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "event":
                    event = value
                case "data":
                    data.append(value)
                case "id":
                    self.last_event_id = value
                case "retry":
                    self.retry = int(value)
                case "":
                    self.comments += 1
        return None

    def expect(self, type, **members):
        """The next event, which must be of this type and have these members."""
        event, object = self.next()
        wanted = {"type": type} | members
        assert event == type == object["type"], object
        assert {name: object.get(name) for name in wanted} == wanted, object
        return object

    def post(self, commands, gateway=None, secret=None, connection=None):
        """Commands for this connection, to whichever gateway."""
        url = (gateway or self.gateway).url
        path = f"/v1/connections/{connection or self.connected['connection']}/commands"
        secret = self.connected["secret"] if secret is None else secret
        return request("POST", url + path, commands, authorization=f"Bearer {secret}")

    def send(self, *commands, gateway=None):
        answer = self.post(commands[0] if len(commands) == 1 else list(commands), gateway)
        assert answer.status == 202, answer


class Poller:
    """Polls any gateways, with what it has got so far."""

    def __init__(self, token, *channels):
        self.token, self.channels, self.cursor = token, channels, ""

    def try_poll(self, gateway, wait=0, deadline=40, **members):
        subscribe = [{"channel": channel} for channel in self.channels]
        body = {"token": self.token, "subscribe": subscribe, "cursor": self.cursor, "wait": wait} | members
        return request("POST", f"{gateway.url}/v1/poll", body, deadline)

    def poll(self, gateway, wait=0, *commands):
        """What the server says, without what only says that all is well."""
        answer = self.try_poll(gateway, wait, commands=list(commands))
        assert answer.status == 200, answer
        self.cursor = answer.json.get("cursor", "")
        return [it for it in answer.json["objects"] if it["type"] not in ("connected", "subscribed")]
