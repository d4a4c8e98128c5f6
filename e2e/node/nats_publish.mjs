// nats_publish.mjs URL SUBJECT BODY [HEADERS as JSON]: one publish by a service, as plain as can be.
import { connect, headers } from '@nats-io/transport-node';

const [url, subject, body, given] = process.argv.slice(2);
const client = await connect({ servers: url });
const sent = headers();
for (const [name, value] of Object.entries(JSON.parse(given ?? '{}'))) sent.set(name, value);
client.publish(subject, body, { headers: sent });
await client.drain();
