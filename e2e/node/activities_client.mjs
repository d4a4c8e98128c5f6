// activities_client.mjs URL [TOKEN]: the socket service of the application that
// profiles/activities.toml serves, by its methods.
import { io } from 'socket.io-client';
import { obey, say, tellOf } from './told.mjs';

const [url, token] = process.argv.slice(2);

const socketService = {
  connect() {
    if (!token) return Promise.reject(new Error('No auth token available'));
    this.socket = io(url, { auth: { token }, transports: ['websocket'] });
    tellOf(this.socket);
    return new Promise((resolve, reject) => {
      this.socket.once('connect', resolve);
      this.socket.once('connect_error', reject);
    });
  },
  disconnect() {
    this.socket.disconnect();
  },
  emit(event, data) {
    this.socket.emit(event, data);
  },
  emitWithAck(event, data) {
    return this.socket.timeout(5000).emitWithAck(event, data);
  },
  joinRoom(roomId) {
    return this.emitWithAck('room:join', { roomId });
  },
  leaveRoom(roomId) {
    return this.emitWithAck('room:leave', { roomId });
  },
};

try {
  await socketService.connect();
} catch (error) {
  say('not connected', error.message);
}
await obey({
  emit: (event, data) => socketService.emit(event, data),
  emitWithAck: async (event, data) => say('answer', await socketService.emitWithAck(event, data)),
  joinRoom: async (room) => say('answer', await socketService.joinRoom(room)),
  leaveRoom: async (room) => say('answer', await socketService.leaveRoom(room)),
  disconnect: () => socketService.disconnect(),
});
