// A Socket.IO server with rooms: socketio.mjs PORT. BENCH_SECRET signs the tokens (HS256).
import { createServer } from "node:http";
import jwt from "jsonwebtoken";
import { Server } from "socket.io";

const server = createServer();
const io = new Server(server, { transports: ["websocket"], serveClient: false });

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, process.env.BENCH_SECRET, { algorithms: ["HS256"] }).sub;
    next();
  } catch (error) {
    next(error);
  }
});

io.on("connection", (socket) => {
  socket.on("subscribe", (channel) => {
    socket.join(channel);
    socket.emit("subscribed", channel);
  });
  socket.on("publish", (channel, data) => io.to(channel).emit("message", channel, data));
});

server.listen(Number(process.argv[2]), "127.0.0.1");
