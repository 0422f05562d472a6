// `varve pull`: an image of a registry into the image store.
// Run by main.ts; the work is done by lazy/pull.
// Manual: registry-commands.ts.

import { LayerFolder } from '../lazy/layer-folder.js';
import { bytesText } from '../report/words.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { interruptibly } from './interrupt.js';
import { obtainImage } from './obtain-image.js';
import { counted, print, remark } from './output.js';

export function run(given: Arguments): Promise<number> {
  return interruptibly(({ signal }) => pull(given, signal));
}

async function pull(given: Arguments, signal: AbortSignal): Promise<number> {
  const [text] = given.operands as [string];
  const wanted = { lazy: given.has('lazy'), fresh: true, signal };
  const { store, image } = await obtainImage(given, text, wanted);
  const layers = image.layers.map((id) => LayerFolder.of(store, id));
  const bytes = layers.reduce((sum, layer) => sum + layer.read().bytes, 0);
  const missing = layers.filter((layer) => !layer.isComplete).length;
  print(given, { store, ...image, bytes, complete: missing === 0 }, () => image.digest);
  if (!given.has('json')) {
    const content =
      missing === 0
        ? 'all content is here'
        : `content of ${counted(missing, 'layer')} comes when it is read`;
    remark(
      given,
      `${image.name}: ${counted(layers.length, 'layer')}, ${bytesText(bytes)}; ${content}`,
    );
  }
  return EXIT.ok;
}
