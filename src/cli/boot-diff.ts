// `varve boot diff OLD NEW`: two boot images as two trees, in the forms of `varve diff`, and what no file says by itself.
// Run by main.ts; boot/inspect/compare.ts makes the trees.
// Manual: boot-inspect-commands.ts.

import { type BootComparison, comparedTree, compareParts } from '../boot/inspect/compare.js';
import { type OpenBoot, openBoot } from '../boot/inspect/open.js';
import { documentOf, summaryOf } from '../report/document.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { isNews } from '../union/change.js';
import { treeChanges } from '../union/tree-changes.js';
import type { Arguments } from './args.js';
import { checkFlags, tell } from './diff.js';
import { type Compared, insidePath, splitOperands, withinPaths } from './diff-compared.js';
import { EXIT } from './exit-codes.js';
import { asMountError } from './image.js';
import { print, table } from './output.js';

export async function run(given: Arguments): Promise<number> {
  checkFlags(given);
  const [[old = '', now = '', ...more], paths] = splitOperands(given);
  if (more.length > 0) {
    throw new MountError(
      'option',
      `${more[0]}: two are compared: write OLD NEW, and PATHs behind --`,
    );
  }
  const before = openBoot(old);
  try {
    const after = openBoot(now);
    try {
      return await show(given, before, after, paths);
    } finally {
      after.close();
    }
  } finally {
    before.close();
  }
}

async function show(
  given: Arguments,
  before: OpenBoot,
  after: OpenBoot,
  paths: readonly string[],
): Promise<number> {
  const withMini = !given.has('payload') && [before, after].every(hasMini);
  let compared: Compared;
  try {
    const changes = treeChanges(comparedTree(before, withMini), comparedTree(after, withMini));
    compared = {
      changes: withinPaths(
        changes,
        paths.map((path) => insidePath(path)),
      ),
      names: { lowerdirs: [before.path], upperdir: after.path },
      close: () => {},
    };
  } catch (error) {
    throw asMountError(error, after.path);
  }
  const comparison = compareParts(before, after);
  if (!given.has('json')) {
    const isTree = !['stat', 'name-status', 'patch', 'html', 'quiet'].some((flag) =>
      given.has(flag),
    );
    if (isTree) process.stdout.write(partsText(comparison));
    return tell(given, compared);
  }
  const shown = given.has('all') ? compared.changes : compared.changes.filter(isNews);
  const document = documentOf(shown, compared.names);
  print(given, { ...document, summary: summaryOf(compared.changes), boot: comparison }, () => '');
  return given.has('exit-code') && shown.length > 0 ? EXIT.failed : EXIT.ok;
}

function hasMini({ initramfs }: OpenBoot): boolean {
  return initramfs?.config !== undefined;
}

function partsText({ sizes, settings, modules }: BootComparison): string {
  const size = (bytes: number | undefined): string =>
    bytes === undefined ? '-' : bytesText(bytes);
  const rows = sizes.map(({ part, before, after }) => [part, `${size(before)} -> ${size(after)}`]);
  for (const { key, before, after } of settings)
    rows.push([key, `${before ?? '-'} -> ${after ?? '-'}`]);
  const { added, removed } = modules;
  if (added.length + removed.length > 0) {
    rows.push([
      'modules',
      [...added.map((name) => `+${name}`), ...removed.map((name) => `-${name}`)].join(' '),
    ]);
  }
  return `${table(rows)}\n\n`;
}
