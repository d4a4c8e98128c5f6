"""A bare publish/subscribe server on uWebSockets' own topics: uwebsockets.py PORT. No authentication.

Text frames: "S channel" subscribes, answered "OK"; "P channel data" goes to the subscribers as it is.
"""

import sys

from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()


def message(socket, frame, _opcode):
    verb, channel, *_data = frame.split(" ", 2)
    if verb == "S":
        socket.subscribe(channel)
        socket.send("OK", OpCode.TEXT)
    else:
        app.publish(channel, frame, OpCode.TEXT)


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "idle_timeout": 120,
        # Its default of 64 KiB drops messages for readers that are less than a second behind.
        "max_backpressure": 1024 * 1024,
        "message": message,
    },
)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
