"""A wire that a test can cut: a TCP proxy between one process and a server that others still reach."""

import contextlib
import dataclasses
import socket
import threading


@dataclasses.dataclass(eq=False)
class Joint:
    """One connection, and the one that it is continued by."""

    near: socket.socket
    far: socket.socket
    # The server's next reply is lost, and the connection with it.
    swallows: bool = False

    def end(self):
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    def __init__(self, port, scheme):
        # May be changed: new connections lead to the new port.
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.is_cut, self.flows = False, threading.Event()
        self.joints, self.lock = set(), threading.Lock()
        self.flows.set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self.join, args=(near,), daemon=True).start()

    def join(self, near):
        with near:
            # To be turned away looks like a server that is gone; in silence, like one that hangs.
            self.flows.wait()
            if self.is_cut:
                return
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target), 5) as far:
                far.settimeout(None)
                self.carry(Joint(near, far))

    def carry(self, joint):
        """Until both directions have ended."""
        with self.lock:
            self.joints.add(joint)
        back = threading.Thread(target=self.forward, args=(joint, joint.far, joint.near), daemon=True)
        back.start()
        self.forward(joint, joint.near, joint.far)
        back.join()
        with self.lock:
            self.joints.discard(joint)

    def forward(self, joint, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flows.wait()
                if joint.swallows and source is joint.far:
                    joint.end()
                    return
                sink.sendall(data)
        self.flows.wait()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self):
        """Ends what is connected; who comes again is turned away."""
        self.is_cut = True
        for joint in self.now():
            joint.end()

    def silence(self):
        """Nothing gets through any more, and nobody is told."""
        self.flows.clear()

    def swallow(self):
        """Of each connection there is, loses the server's next reply and then the connection."""
        for joint in self.now():
            joint.swallows = True

    def mend(self):
        self.is_cut = False
        self.flows.set()

    def now(self):
        with self.lock:
            return list(self.joints)
