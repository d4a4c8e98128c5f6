// socketio_rounds.mjs URL COUNT: keeps COUNT clients of Socket.IO; for each line of its input, once
// each of them was answered, over WebSocket if the line says so, prints what has become of them.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const [url, count] = process.argv.slice(2);
const disconnects = [];
const reconnects = { reconnectionDelay: 100, reconnectionDelayMax: 500 };
const sockets = Array.from({ length: Number(count) }, () => io(url, { forceNew: true, ...reconnects }));
for (const socket of sockets) socket.on('disconnect', (reason) => disconnects.push(reason));

// An engine that closes while it changes its transport is followed by another one.
const next = (socket) =>
  new Promise((resolve) => {
    socket.once('connect', resolve);
    socket.once('disconnect', resolve);
    socket.io.engine?.once('upgrade', resolve);
  });

async function round(socket, number, transport) {
  const isReady = () => socket.connected && ['', socket.io.engine.transport.name].includes(transport);
  for (;;) {
    while (!isReady()) await next(socket);
    const answer = await socket.timeout(5000).emitWithAck('message-with-ack', number).catch(() => null);
    if (answer === number) return;
  }
}

for await (const transport of createInterface({ input: process.stdin })) {
  await Promise.all(sockets.map((socket, number) => round(socket, number, transport)));
  console.log(JSON.stringify({ answered: sockets.length, disconnects }));
}
sockets.forEach((socket) => socket.close());
