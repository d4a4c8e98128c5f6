// ws_roundtrip.mjs URL TEXT [SUBPROTOCOL]: sends TEXT, prints the first message that comes, and closes.
import { once } from 'node:events';
import WebSocket from 'ws';

const [url, text, subprotocol] = process.argv.slice(2);
const socket = new WebSocket(url, subprotocol ? [subprotocol] : []);
await once(socket, 'open');
socket.send(text);
const [message] = await once(socket, 'message');
console.log(message.toString());
socket.close();
