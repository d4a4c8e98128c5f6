"""A cluster that Helm can ask what is there: as much of Kubernetes's API as `--dry-run=server` reads."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


def root(version):
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def resource(each):
    """The name of a kind in paths: that which `discovery` gives it."""
    return each["kind"].lower() + "s"


def path(each):
    meta = each["metadata"]
    return f"{root(each['apiVersion'])}/namespaces/{meta['namespace']}/{resource(each)}/{meta['name']}"


def discovery(objects):
    """What a client reads first: the cluster's version, groups, and the kinds of `objects` in them."""
    versions = {}
    for each in objects:
        versions.setdefault(each["apiVersion"], {})[each["kind"]] = resource(each)
    groups = []
    for version, kinds in versions.items():
        yield root(version), {"kind": "APIResourceList", "groupVersion": version, "resources": [
            {"name": name, "kind": kind, "namespaced": True, "verbs": ["get"]} for kind, name in kinds.items()]}
        if "/" in version:
            group, _, name = version.partition("/")
            groups.append({"name": group, "versions": [{"groupVersion": version, "version": name}]})
    yield "/version", {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
    yield "/api", {"kind": "APIVersions", "versions": ["v1"]}
    yield "/apis", {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def owned(each):
    """The object as Helm's release `fanfare` left it."""
    notes = {"meta.helm.sh/release-name": "fanfare", "meta.helm.sh/release-namespace": "fanfare"}
    return each | {"metadata": each["metadata"] | {"annotations": notes}}


@contextlib.contextmanager
def cluster(known, there):
    """The URL of a cluster that knows the kinds of `known` and has the objects `there`."""
    answers = dict(discovery(known)) | {path(each): owned(each) for each in there}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or MISSING).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
