// `varve why`: which layer owns a path, what that hides, and what each layer has done to it.
// Run by main.ts; the answer is made by ops/why.ts.
// Manual: diff-commands.ts.

import { mountpointNamed } from '../named/resolve.js';
import { findStack } from '../ops/open-stack.js';
import { explain, type LayerAnswer, type WhyAnswer } from '../ops/why.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { locate } from '../stack/mounts-known.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { asMountError } from './image.js';
import { print, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  let code: number = EXIT.ok;
  const all: object[] = [];
  const hash = given.has('hash');
  for (const path of given.operands) {
    const { layers, inside, mountpoint } = await stackFor(given, path);
    let answer: WhyAnswer;
    try {
      answer = explain(layers, inside, { hash });
    } catch (error) {
      throw asMountError(error, path);
    }
    if (!answer.exists) code = EXIT.absent;
    all.push({ ...(mountpoint === undefined ? {} : { mountpoint }), ...answer });
    if (!given.has('json')) process.stdout.write(`${whyText(path, answer)}\n`);
  }
  if (given.has('json')) print(given, all.length === 1 ? all[0] : all, () => '');
  return code;
}

interface Asked {
  readonly layers: Parameters<typeof explain>[0];
  /** Path in the union. */
  readonly inside: string;
  readonly mountpoint?: string;
}

async function stackFor(given: Arguments, path: string): Promise<Asked> {
  const options = given.values('options');
  if (options.length > 0) {
    const { layers } = await findStack({ options, reads: true });
    return { layers, inside: path };
  }
  const located = await locate(await mountpointNamed(path));
  if (located === undefined) {
    throw new MountError(
      'absent',
      `${path}: not in a stacked mount: see \`varve status\`, or name the stack by -o`,
    );
  }
  const { layers, inside, mount } = located;
  return { layers, inside, mountpoint: mount.mountpoint };
}

/** The answer for a terminal. */
function whyText(path: string, answer: WhyAnswer): string {
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
  return [
    first,
    ...(rows.length > 0 ? [table(rows, '  ')] : []),
    ...way,
    ...lifeLines(answer),
  ].join('\n');
}

/** What a single layer has made of it is said already, but for a digest. */
function lifeLines({ life }: WhyAnswer): string[] {
  if (life.length < 2 && life[0]?.sha256 === undefined) return [];
  const rows = life.map((event) => [
    event.role,
    HAPPENED[event.status],
    [
      ...(event.from === undefined ? [] : [`from /${event.from}`]),
      ...event.what,
      ...(event.metadataOnly === true ? ['metadata only'] : []),
      ...(event.status === 'A' ? [event.type] : []),
      ...(event.size === undefined || event.status === 'D' ? [] : [bytesText(event.size)]),
      ...(event.sha256 === undefined ? [] : [`sha256:${event.sha256}`]),
    ].join(', '),
  ]);
  return ['  its life, the lowest layer first:', table(rows, '    ')];
}

const HAPPENED = {
  A: 'added',
  M: 'changed',
  D: 'deleted',
  R: 'renamed',
  T: 'replaced',
  '=': 'copied',
} as const;

function effectText(layer: LayerAnswer): string {
  const what =
    layer.found === 'file' && layer.size !== undefined
      ? `file, ${bytesText(layer.size)}`
      : layer.found;
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
