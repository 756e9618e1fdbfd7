// Reads the results of the stream "lobby" from Redis and decodes the masks.
//
//   npm install @redis/client
//   node examples/subscribe.mjs
import { createClient } from "@redis/client";

const key = "streamseg:{lobby}:results";
const client = createClient({ url: process.env.REDIS_URL ?? "redis://localhost:6379/0" });
client.on("error", (error) => console.error(error.message)); // it connects again by itself
await client.connect();

const [newest] = await client.xRevRange(key, "+", "-", { COUNT: 1 });
let last = newest?.id ?? "0"; // "0" reads everything that is kept
for (;;) {
  const answer = await client.xRead({ key, id: last }, { BLOCK: 1000, COUNT: 64 }).catch(() => null);
  if (answer === null) await new Promise((resolve) => setTimeout(resolve, 10));
  for (const { id, message } of answer?.[0].messages ?? []) {
    last = id;
    const result = JSON.parse(message.result);
    for (const { id, label, score, box, mask } of result.instances) {
      const pixels = decode(mask).reduce((sum, pixel) => sum + pixel, 0);
      console.log(result.frame, result.pts, id, label, score, box, pixels);
    }
  }
}

// COCO run lengths -> Uint8Array of 0 and 1, column by column: pixel (x, y) is at [x * height + y].
function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(height * width);
  const runs = [];
  for (let i = 0; i < counts.length; ) {
    let run = 0, shift = 0, group; // groups of five bits, the lowest first; bit 5: more follow
    do {
      group = counts.charCodeAt(i++) - 48;
      run |= (group & 31) << shift;
      shift += 5;
    } while (group & 32);
    if (group & 16) run |= -1 << shift; // negative
    runs.push(runs.length > 2 ? run + runs[runs.length - 2] : run);
  }
  let start = 0;
  runs.forEach((run, k) => mask.fill(k % 2, start, (start += run)));
  return mask;
}
