// config_push_client.mjs URL AUTH [OPTIONS]: the client that profiles/config-push.toml serves, by the
// options, events and order of its application, with React Native's storage and emitter as plain
// objects. It says `ping` as soon as it is connected, where the application waits for 30 s.
import { EventEmitter } from 'node:events';
import { io } from 'socket.io-client';
import { obey, say, tellOf } from './told.mjs';

const SCREENS = ['Auth', 'Home', 'Profile', 'ChooseLanguage'];

const storage = new Map();
const deviceEvents = new EventEmitter();
for (const event of ['CONFIG_UPDATE', 'CONFIG_FULL_SYNC', 'CONNECTION_STATUS', 'AUTH_ERROR']) {
  deviceEvents.on(event, (payload) => say('app', event, payload ?? null));
}

class ConfigWebSocketClient {
  isConnected = false;
  configs = {};

  constructor(baseUrl, auth, options) {
    this.socket = io(`${baseUrl}/config-socket`, {
      auth,
      transports: ['websocket'],
      reconnection: true,
      reconnectionAttempts: 10,
      reconnectionDelay: 1000,
      timeout: 20000,
      ...options,
    });
    tellOf(this.socket);
    this.setupEventHandlers();
  }

  setupEventHandlers() {
    this.socket.on('connect', () => {
      this.isConnected = true;
      this.socket.emit('ping');
    });
    this.socket.on('connection_established', () => this.subscribeToScreens());
    this.socket.on('config_update', (data) => this.handleConfigUpdate(data));
    this.socket.on('full_config_sync', (data) => this.handleFullConfigSync(data));
    this.socket.on('disconnect', () => {
      this.isConnected = false;
      deviceEvents.emit('CONNECTION_STATUS', { status: 'disconnected' });
      this.loadCachedConfigs();
    });
    this.socket.on('auth_error', () => {
      storage.delete('auth_token');
      deviceEvents.emit('AUTH_ERROR');
    });
    this.socket.on('config_error', () => this.loadCachedConfigs());
  }

  subscribeToScreens() {
    for (const screenName of SCREENS) this.socket.emit('subscribe_to_screen', { screenName });
  }

  handleConfigUpdate({ screen, config }) {
    this.updateLocalConfig(screen, config);
    deviceEvents.emit('CONFIG_UPDATE', { screen, config });
    this.saveConfigToStorage(screen, config);
  }

  handleFullConfigSync({ configs }) {
    for (const [screen, config] of Object.entries(configs)) {
      this.updateLocalConfig(screen, config);
      this.saveConfigToStorage(screen, config);
    }
    deviceEvents.emit('CONFIG_FULL_SYNC', { configs });
  }

  updateLocalConfig(screen, config) {
    this.configs[screen] = config;
  }

  saveConfigToStorage(screen, config) {
    storage.set(`config_${screen}`, JSON.stringify({ config, timestamp: new Date().toISOString() }));
  }

  loadCachedConfigs() {
    for (const screen of SCREENS) {
      const cached = storage.get(`config_${screen}`);
      if (cached) this.updateLocalConfig(screen, JSON.parse(cached).config);
    }
  }
}

const [url, auth, options] = process.argv.slice(2);
const client = new ConfigWebSocketClient(url, JSON.parse(auth), JSON.parse(options ?? '{}'));
await obey({
  emit: (...event) => client.socket.emit(...event),
  configs: () => say('configs', client.configs),
});
