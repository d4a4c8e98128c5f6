// socketio_client.mjs: clients of Socket.IO. Lines of JSON on standard input say what they do:
// [client, action, argument…]; lines on standard output what happens to them: [client, what, …].
// Buffers are what Node makes of them in JSON.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';
import * as msgpack from 'socket.io-msgpack-parser';

const clients = new Map();
const isBuffer = (value) => value?.type === 'Buffer' && Array.isArray(value.data);
const revive = (_, value) => (isBuffer(value) ? Buffer.from(value.data) : value);
const say = (...what) => console.log(JSON.stringify(what));

function listen(client, socket) {
  clients.set(client, socket);
  socket.on('connect', () => say(client, 'connect', socket.id, socket.io.engine.transport.name, socket.recovered));
  socket.on('disconnect', (reason) => say(client, 'disconnect', reason, socket.active));
  socket.on('connect_error', (error) => say(client, 'connect_error', error.message, error.data ?? null, socket.active));
  socket.onAny((...event) => say(client, 'event', ...event));
}

const actions = {
  open(client, url, { usesMsgpack, ...options }) {
    if (usesMsgpack) options.parser = msgpack;
    const socket = io(url, { forceNew: true, autoConnect: false, ...options });
    listen(client, socket);
    const manager = socket.io;
    manager.on('open', () => manager.engine.on('upgrade', ({ name }) => say(client, 'upgrade', name)));
    socket.connect();
  },
  join: (client, other, namespace, options) => listen(client, clients.get(other).io.socket(namespace, options).connect()),
  emit: (client, ...event) => clients.get(client).emit(...event),
  volatile: (client, ...event) => clients.get(client).volatile.compress(false).emit(...event),
  ask(client, number, timeout, ...event) {
    const answered = clients.get(client).timeout(timeout).emitWithAck(...event);
    answered.then((answer) => say(client, 'answer', number, answer), (error) => say(client, 'no answer', number, error.message));
  },
  // From now on it acknowledges the event with these arguments.
  acknowledge: (client, event, ...args) => clients.get(client).on(event, (...told) => told.at(-1)(...args)),
  auth: (client, auth) => Object.assign(clients.get(client), { auth }),
  connect: (client) => clients.get(client).connect(),
  disconnect: (client) => clients.get(client).disconnect(),
  // As a network that breaks.
  breakOff: (client) => clients.get(client).io.engine.transport.ws.terminate(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [client, action, ...rest] = JSON.parse(line, revive);
  actions[action](client, ...rest);
}
for (const socket of clients.values()) socket.disconnect();
setTimeout(() => process.exit(0), 500).unref();
