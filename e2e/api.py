"""The HTTP API as a service uses it."""

import dataclasses
import json
import urllib.error
import urllib.request

ADMIN_KEY = "test-admin-key"
PUBLISH_KEY = "test-publish-key"
# Of e2e/profiles.toml: for clients, which then have the role "kiosk".
CLIENT_KEY = "test-client-key"


@dataclasses.dataclass
class Response:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def problem(self):
        """Status and code of an answer that must be `application/problem+json`."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status, self
        assert problem["type"] and problem["title"] and problem["detail"], self
        return self.status, problem["code"]


def http(method, url, body=None, deadline=10, **headers):
    """Header names have `_` for `-`. A body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    headers = {"content-type": "application/json"} | headers
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=deadline) as answer:
            return Response(answer.status, lower(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        return Response(error.code, lower(error.headers), error.read())


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


class Api:
    def __init__(self, gateway, key=ADMIN_KEY):
        self.url, self.key = gateway.url, key

    def call(self, method, path, body=None, **headers):
        return http(method, self.url + path, body, **({"x_api_key": self.key} | headers))

    def get(self, path):
        answer = self.call("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def try_publish(self, message, **headers):
        return self.call("POST", "/v1/publish", message, **headers)

    def publish(self, **message):
        answer = self.try_publish(message)
        assert answer.status == 200, answer
        return answer.json
