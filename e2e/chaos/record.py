"""The operation log: written as things happen, so that a crash of the test loses nothing."""

import json
import threading
import time


class Recorder:
    """Appends events to a file. Threads and tasks may share one."""

    def __init__(self, path):
        self.path = path
        self.file = path.open("w", buffering=1)
        self.lock = threading.Lock()

    def write(self, f, type, **members):
        """Logs one event; members that are None are left out. Returns its time."""
        members = {name: value for name, value in members.items() if value is not None}
        with self.lock:
            t = time.monotonic_ns()
            self.file.write(json.dumps({"t": t, "f": f, "type": type} | members) + "\n")
        return t

    def close(self):
        self.file.close()


def read(path):
    """The events of a log, in the order in which they were written."""
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)
