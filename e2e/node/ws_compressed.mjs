// ws_compressed.mjs URL TOKEN CHANNEL DATA: offers compression and compresses all that it sends. Subscribes, publishes,
// and prints what was negotiated and the message that comes back.
import WebSocket from 'ws';

const [url, token, channel, data] = process.argv.slice(2);
const socket = new WebSocket(url, ['fanfare.v1'], { perMessageDeflate: { threshold: 0 } });
const send = (commands) => socket.send(JSON.stringify(commands));
socket.on('open', () => send([{ type: 'connect', token }, { type: 'subscribe', channel }]));
socket.on('message', (text) => {
  const frame = JSON.parse(text);
  if (frame.type === 'error') throw new Error(text);
  if (frame.type === 'subscribed') send({ type: 'publish', channel, data: JSON.parse(data) });
  if (frame.type !== 'message') return;
  console.log(JSON.stringify({ extensions: socket.extensions, frame }));
  socket.close();
});
