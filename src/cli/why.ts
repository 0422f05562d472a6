// `varve why`: which layer owns a path, and what that hides.
// Run by main.ts; the answer is made by stack/why.ts.
// Manual: commands.ts.

import { MountError } from '../stack/errors.js';
import { locate } from '../stack/mounts-known.js';
import { mountpointNamed } from '../stack/named-resolve.js';
import { explain, type LayerAnswer, type WhyAnswer } from '../stack/why.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { print, size, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  let code: number = EXIT.ok;
  const all: object[] = [];
  for (const path of given.operands) {
    const located = await locate(await mountpointNamed(path));
    if (located === undefined) {
      throw new MountError('absent', `${path}: not in a stacked mount: see \`varve status\``);
    }
    const answer = explain(located.layers, located.inside);
    if (!answer.exists) code = EXIT.absent;
    all.push({ mountpoint: located.mount.mountpoint, ...answer });
    if (!given.has('json')) process.stdout.write(`${whyText(path, answer)}\n`);
  }
  if (given.has('json')) print(given, all.length === 1 ? all[0] : all, () => '');
  return code;
}

/** The answer for a terminal; also used by the demo. */
export function whyText(path: string, answer: WhyAnswer): string {
  const decision = answer.layers.find((layer) => layer.effect === 'whiteout');
  const first =
    answer.owner !== undefined
      ? `${path}: from ${answer.owner.role}, ${answer.owner.path}`
      : decision !== undefined
        ? `${path}: deleted, by a whiteout in ${decision.role}`
        : `${path}: in no layer`;
  const rows = answer.layers
    .filter((layer) => layer.effect !== 'absent')
    .map((layer) => [layer.role, effectText(layer), layer.path]);
  const way = answer.way.map((mark) => `  on the way: /${mark.at}: ${mark.mark} in ${mark.role}`);
  return [first, ...(rows.length > 0 ? [table(rows, '  ')] : []), ...way].join('\n');
}

function effectText(layer: LayerAnswer): string {
  const what =
    layer.found === 'file' && layer.size !== undefined ? `file, ${size(layer.size)}` : layer.found;
  const marks = layer.marks.length > 0 ? ` [${layer.marks.join(', ')}]` : '';
  switch (layer.effect) {
    case 'owner':
      return `owns it: ${what}${marks}`;
    case 'merged':
      return `merged: ${what}${marks}`;
    case 'data':
      return `gives the data: ${what}`;
    case 'whiteout':
      return 'deletes it: whiteout';
    case 'hidden':
      return `hidden: ${what}${marks} (${layer.because ?? 'above'})`;
    default:
      return 'absent';
  }
}
