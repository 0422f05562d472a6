// `varve evict`: gives back the space of content that can be fetched again.
// Run by main.ts; stack/evict.ts does it, for a mount that stands or for an image that nobody uses.
// Manual: registry-commands.ts.

import { mountAt } from '../linux/mountinfo.js';
import { bytesText } from '../report/words.js';
import { mountpointPath } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { type Evicted, evictImage, evictMount } from '../stack/evict.js';
import { layersOfImage } from '../stack/registry-mount.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { knownImage } from './obtain-image.js';
import { print, remark } from './output.js';
import { bytesOf } from './registry.js';

export async function run(given: Arguments): Promise<number> {
  const [what] = given.operands as [string];
  const keep = bytesOf('keep', given.value('keep') ?? '0');
  const { freed, kept } = await evict(given, what, keep);
  print(given, { freedBytes: freed, kept }, () => '');
  if (given.has('json')) return EXIT.ok;
  for (const why of kept) remark(given, why);
  remark(given, `${bytesText(freed)} given back`);
  return EXIT.ok;
}

/** A path names a mount, and so does any name at which something is mounted; anything else an image. */
async function evict(given: Arguments, what: string, keep: number): Promise<Evicted> {
  if (what === '') throw new MountError('option', 'an empty argument: name a mount or an image');
  if (/^[./]/.test(what) || mountAt(mountpointPath(what)) !== undefined) {
    return evictMount(what, keep);
  }
  const { store, image } = knownImage(given, what);
  return { freed: await evictImage(layersOfImage(store, image), keep), kept: [] };
}
