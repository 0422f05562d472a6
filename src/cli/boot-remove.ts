// `varve boot remove`: what was installed for a kernel goes.
// Run by main.ts; boot/install/remove.ts does it.
// Manual: boot-install-commands.ts.

import { join } from 'node:path';
import { removeInstalled } from '../boot/install/remove.js';
import type { Arguments } from './args.js';
import { systemOf } from './boot-install.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const { root, boot } = systemOf(given);
  const release = given.value('kver');
  const result = await removeInstalled({
    boot,
    root,
    force: given.has('force'),
    ...(release !== undefined && { release }),
  });
  const { folder, removed, left, restored } = result;
  for (const path of left) {
    remark(given, `${join(folder, path)}: was changed since it was installed: left alone`);
  }
  if (given.has('quiet') && !given.has('json')) return EXIT.ok;
  print(given, { version: 1, ...result }, () =>
    [
      ...removed.map((path) => `removed   ${join(folder, path)}`),
      ...(restored === undefined ? [] : [`restored  ${join(folder, restored)}`]),
      `${result.release}: ${counted(removed.length, 'file')} removed`,
    ].join('\n'),
  );
  return EXIT.ok;
}
