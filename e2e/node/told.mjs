// told.mjs: a program that a test drives. Lines of JSON on standard input are [action, argument…];
// lines on standard output are what happens: [what, …].
import { createInterface } from 'node:readline';

export const say = (...what) => console.log(JSON.stringify(what));

// Whatever happens to a socket, in order.
export function tellOf(socket, name) {
  const at = name ? [name] : [];
  socket.on('connect', () => say(...at, 'connect', socket.id));
  socket.on('connect_error', (error) => say(...at, 'connect_error', error.message, error.data ?? null));
  socket.on('disconnect', (reason) => say(...at, 'disconnect', reason));
  socket.onAny((...event) => say(...at, 'event', ...event));
}

export async function obey(actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [action, ...rest] = JSON.parse(line);
    await actions[action](...rest);
  }
  process.exit(0);
}
