// What the scripts share: they say that they are ready, and begin once they are told what
// with. So many of them begin at once, whatever it took to load them.
import { createInterface } from 'node:readline';

export async function told() {
  console.log('ready');
  for await (const line of createInterface({ input: process.stdin })) {
    return JSON.parse(line);
  }
  throw new Error('nothing was told');
}

export function tell(answer) {
  console.log(JSON.stringify(answer));
  process.exit(0);
}
