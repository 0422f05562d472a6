// `varve umount`: unmounts when everything is stored, mount by mount.
// Run by main.ts; the work is stack/unmount.ts.
// Manual: commands.ts.

import { mountpointNamed } from '../named/resolve.js';
import { type Unmounted, unmount } from '../stack/unmount.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  let code: number = EXIT.ok;
  const done: (Partial<Unmounted> & { mountpoint: string; error?: string })[] = [];
  for (const operand of given.operands) {
    try {
      const unmounted = await unmount(await mountpointNamed(operand), {
        lazy: given.has('lazy'),
        force: given.has('force'),
      });
      done.push(unmounted);
      if (!given.has('json')) remark(given, sentence(unmounted));
    } catch (error) {
      code = exitCodeOf(error);
      done.push({ mountpoint: operand, error: lineOf(error) });
      if (!given.has('json')) process.stderr.write(`varve: ${lineOf(error)}\n`);
    }
  }
  if (given.has('json')) print(given, done, () => '');
  return code;
}

function sentence({ mountpoint, heldElsewhere }: Unmounted): string {
  if (heldElsewhere === undefined) return `${mountpoint} is unmounted`;
  return `${mountpoint} is unmounted here; another mount namespace (a container, a service) still holds it, and its upper stays in use until that ends`;
}
