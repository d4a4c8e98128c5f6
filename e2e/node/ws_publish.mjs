// ws_publish.mjs URL TOKEN CHANNEL DATA: subscribes, publishes, and prints the message that comes back.
import WebSocket from 'ws';

const [url, token, channel, data] = process.argv.slice(2);
const socket = new WebSocket(url, ['fanfare.v1']);
const send = (commands) => socket.send(JSON.stringify(commands));
socket.on('open', () => send([{ type: 'connect', token }, { type: 'subscribe', channel }]));
socket.on('message', (text) => {
  const frame = JSON.parse(text);
  if (frame.type === 'error') throw new Error(text);
  if (frame.type === 'subscribed') send({ type: 'publish', channel, data: JSON.parse(data) });
  if (frame.type !== 'message') return;
  console.log(text.toString());
  socket.close();
});
