// A bare publish/subscribe server on `ws`: ws.mjs PORT. No authentication.
// Text frames: "S channel" subscribes, answered "OK"; "P channel data" goes to the subscribers as it is.
import { WebSocketServer } from "ws";

const channels = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });

function subscribe(socket, channel) {
  let subscribers = channels.get(channel);
  if (!subscribers) channels.set(channel, (subscribers = new Set()));
  subscribers.add(socket);
  socket.on("close", () => {
    subscribers.delete(socket);
    if (subscribers.size === 0) channels.delete(channel);
  });
  socket.send("OK");
}

server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (frame) => {
    const text = frame.toString();
    if (text.startsWith("S ")) return subscribe(socket, text.slice(2));
    const subscribers = channels.get(text.slice(2, text.indexOf(" ", 2))) ?? [];
    for (const subscriber of subscribers) subscriber.send(frame, { binary: false });
  });
});
