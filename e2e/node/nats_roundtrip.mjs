// nats_roundtrip.mjs URL TEXT: publishes TEXT, and prints it when it comes back.
import { connect } from '@nats-io/transport-node';

const [url, text] = process.argv.slice(2);
const client = await connect({ servers: url });
const subscription = client.subscribe('roundtrip', { max: 1 });
client.publish('roundtrip', text);
for await (const message of subscription) console.log(message.string());
await client.close();
