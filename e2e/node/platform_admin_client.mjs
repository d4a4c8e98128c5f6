// platform_admin_client.mjs URL NAMESPACE AUTH: a client of profiles/platform-admin.toml.
import { io } from 'socket.io-client';
import { obey, say, tellOf } from './told.mjs';

const [url, namespace, auth] = process.argv.slice(2);
const socket = io(url + namespace, { auth: JSON.parse(auth) });
tellOf(socket);
await obey({
  emit: (...event) => socket.emit(...event),
  ask: async (...event) => say('answer', await socket.timeout(5000).emitWithAck(...event)),
  disconnect: () => socket.disconnect(),
});
