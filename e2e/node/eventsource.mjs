// eventsource.mjs URL COUNT: prints the data of COUNT messages, as JSON, and how often the stream was opened.
const [url, count] = process.argv.slice(2);
const data = [];
let opened = 0;
// Its wait before it comes back keeps no process alive.
const alive = setInterval(() => {}, 1000);
const source = new EventSource(url);
source.addEventListener('connected', () => { opened += 1; });
source.addEventListener('message', (event) => {
  data.push(JSON.parse(event.data).data);
  if (data.length < Number(count)) return;
  console.log(JSON.stringify({ data, opened }));
  source.close();
  clearInterval(alive);
});
