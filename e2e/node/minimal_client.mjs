// minimal_client.mjs URL TOKEN CHANNEL: the client of docs/protocol.md, as it stands there; prints the channel's frames.
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket;
const page = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
const [, source] = page.match(/```js\n(export function fanfare.*?)```/s);
const { fanfare } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const [url, token, channel] = process.argv.slice(2);
fanfare(url, async () => token, [channel], (frame) => frame.channel && console.log(JSON.stringify(frame)));
