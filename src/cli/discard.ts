// `varve discard`: takes away what the upper of a mount, or of a stack that is not mounted, has: all of it, or some paths.
// Run by main.ts; ops/commit/discard.ts does it, this file shows what would go and asks.
// Manual: commit-commands.ts. docs/commit.md.

import { createInterface } from 'node:readline/promises';
import { discard, requireDiscardable } from '../ops/commit/discard.js';
import { type WritableStack, writableStack } from '../ops/commit/writable-stack.js';
import { asStack, findStack, openLayers } from '../ops/open-stack.js';
import { readable } from '../report/readable.js';
import { plain } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Change } from '../union/change.js';
import { isNews } from '../union/change.js';
import { readChanges } from '../union/changes.js';
import type { Arguments } from './args.js';
import { stackNamed } from './commit.js';
import { insidePath, isWithin, withinPaths } from './diff-compared.js';
import { EXIT } from './exit-codes.js';
import { counted, print } from './output.js';
import { failing } from './store.js';

/** Changes that are listed before a question. */
const LISTED = 20;

export async function run(given: Arguments): Promise<number> {
  const request = await stackNamed(given);
  const stack = await writableStack(request, 'discard');
  const { spec, live } = stack;
  const upper = spec.upperdir as string;
  const named = given.values('path');
  const paths =
    named.length === 0
      ? undefined
      : named.map((path) => insidePath(path, live ? spec.mountpoint : undefined));
  if (paths?.includes('')) {
    throw new MountError('option', '--path: names the whole upper: leave it out');
  }
  return failing(upper, async () => {
    const all = await changesOf(stack, request);
    if (paths !== undefined) requireDiscardable(spec, paths, all);
    const changes = withinPaths(all, paths ?? []);
    const dryRun = given.has('dry-run');
    if (!dryRun && !(await isWanted(given, upper, changes))) return EXIT.failed;
    const done = dryRun ? { beside: [] } : await discard(spec, live, paths);
    if (given.has('quiet')) return EXIT.ok;
    const text = (path: string): string => readable(path).text;
    const result = {
      version: 1,
      dryRun,
      live,
      upperdir: upper,
      paths: paths?.map(text),
      discarded: changes.map(({ status, path }) => ({ status, path: text(path) })),
      ...done,
      beside: done.beside.map(text),
    };
    const parted = paths === undefined ? [] : changes.filter(({ from }) => isParted(from, paths));
    print(given, result, () => sentences(upper, changes, parted, done.beside, dryRun));
    return EXIT.ok;
  });
}

async function changesOf(
  { spec }: WritableStack,
  request: { readonly mount?: string; readonly options?: readonly string[] },
): Promise<readonly Change[]> {
  const named = await findStack(
    request.mount === undefined ? { options: request.options ?? [] } : { mount: spec.mountpoint },
  );
  const opened = openLayers(named);
  try {
    return readChanges(asStack(opened));
  } finally {
    opened.close();
  }
}

/** @throws MountError where nobody can be asked. */
async function isWanted(
  given: Arguments,
  upper: string,
  changes: readonly Change[],
): Promise<boolean> {
  if (given.has('yes')) return true;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new MountError('option', 'discard: nobody can be asked here: write --yes, or --dry-run');
  }
  for (const line of listed(changes)) process.stderr.write(`${line}\n`);
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const news = changes.filter(isNews).length;
    const said = await asking.question(`discard ${counted(news, 'change')} of ${upper}? [y/N] `);
    return /^y(es)?$/i.test(said.trim());
  } finally {
    asking.close();
  }
}

function listed(changes: readonly Change[]): string[] {
  const news = changes.filter(isNews);
  const lines = news
    .slice(0, LISTED)
    .map(({ status, path }) => `  ${status}  ${plain(readable(path).text)}`);
  if (news.length > LISTED) lines.push(`  and ${news.length - LISTED} more`);
  return lines;
}

/** Whether it was renamed from a path that stays as it is: deleted. */
function isParted(from: string | undefined, paths: readonly string[]): boolean {
  return from !== undefined && !isWithin(from, paths);
}

/** @param parted changes whose old paths stay deleted. */
function sentences(
  upper: string,
  changes: readonly Change[],
  parted: readonly Change[],
  beside: readonly string[],
  dryRun: boolean,
): string {
  const news = changes.filter(isNews).length;
  const lines = dryRun ? listed(changes) : [];
  lines.push(`${upper}: ${counted(news, 'change')} ${dryRun ? 'would be ' : ''}discarded`);
  for (const path of beside)
    lines.push(`  ${plain(readable(path).text)}: the same file: gone, too`);
  for (const { status, path, from } of parted) {
    if (status !== 'R') continue;
    const [now, was] = [path, from as string].map((one) => plain(readable(one).text));
    lines.push(`  ${now} was ${was}, which stays deleted: discard that, too, to have it back`);
  }
  return lines.join('\n');
}
