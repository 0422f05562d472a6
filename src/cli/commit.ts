// `varve commit`: the upper of a mount, or of a stack that is not mounted, becomes a layer.
// Run by main.ts; ops/commit/commit.ts does it, this file says what was done and what to name next time.
// Manual: commit-commands.ts. docs/commit.md.

import { resolveStack, stackMeant } from '../named/resolve.js';
import { writeDownLayers } from '../named/write-down.js';
import { type CommitRequest, type Committed, commit } from '../ops/commit/commit.js';
import { readable } from '../report/readable.js';
import { bytesText, plain } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { joinLayers } from '../stack/option-text.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print } from './output.js';
import { StatusLine } from './status-line.js';
import { failing } from './store.js';

export async function run(given: Arguments): Promise<number> {
  const into = given.value('into');
  if (into === undefined) throw new MountError('option', 'commit: --into is missing: name a layer');
  const dryRun = given.has('dry-run');
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  let done: Committed;
  try {
    const request = {
      ...(await stackNamed(given)),
      into,
      dryRun,
      onProgress: (text: string) => line.show(text),
    };
    done = await failing(into, () => commit(request));
  } finally {
    line.end();
  }
  const file = dryRun ? undefined : await writeDown(given, done);
  if (!given.has('quiet')) {
    print(given, { ...jsonOf(done, dryRun), stackFile: file }, () => {
      const noted = file === undefined ? '' : `\n  ${file} names the layer now`;
      return `${textOf(done, dryRun)}${noted}`;
    });
  }
  return EXIT.ok;
}

/** The stack that is named: a mount point, a name of varve.yaml, or options. @throws MountError. */
export async function stackNamed(
  given: Arguments,
): Promise<Pick<CommitRequest, 'mount' | 'options'>> {
  const options = given.values('options');
  const [mount] = given.operands;
  if ((mount === undefined) === (options.length === 0)) {
    throw new MountError(
      'option',
      'name one stack: a mount point, or -o lowerdir=...,upperdir=...',
    );
  }
  return mount === undefined ? { options } : stackMeant(mount);
}

/** A stack of varve.yaml has one more layer now. @returns the file. */
async function writeDown(
  given: Arguments,
  { layer, nextLowerdirs, nextDatadirs }: Committed,
): Promise<string | undefined> {
  const [operand] = given.operands;
  const named = operand === undefined ? undefined : await resolveStack(operand);
  return writeDownLayers(
    named,
    { lowerdirs: nextLowerdirs, datadirs: nextDatadirs },
    (path) => `${layer}: is committed, but ${path} does not name it yet`,
  );
}

function jsonOf(done: Committed, dryRun: boolean): object {
  const paths = (list: readonly string[]): string[] => list.map((path) => readable(path).text);
  return {
    version: 1,
    dryRun,
    ...done,
    copied: paths(done.copied),
    changing: paths(done.changing),
    parted: paths(done.parted),
    options: optionsOf(done),
  };
}

/** What to mount next time. */
function optionsOf({ nextLowerdirs, nextDatadirs }: Committed): string {
  return `lowerdir=${joinLayers(nextLowerdirs, nextDatadirs)}`;
}

function textOf(done: Committed, dryRun: boolean): string {
  const lines: string[] = [];
  const { layer, frozen, upperdir, live, image } = done;
  if (dryRun) {
    const where = frozen === '' ? 'frozen beside it first' : 'by a rename';
    return `${upperdir}: would become ${layer}, ${where}`;
  }
  const bytes = image === undefined || image.bytes === 0 ? '' : `, ${bytesText(image.bytes)}`;
  lines.push(`${upperdir}: committed as ${layer}${bytes}`);
  if (live) {
    const stay = done.copied.length;
    const kept = stay === 0 ? '' : `; ${counted(stay, 'file')} in use stayed in the upper`;
    lines.push(`  the mount goes on; nobody was answered for ${done.stallMilliseconds} ms${kept}`);
  }
  for (const path of done.changing) {
    lines.push(`  ${plain(readable(path).text)}: was written to while it was copied`);
  }
  for (const path of done.parted) {
    const name = plain(readable(path).text);
    lines.push(
      `  ${name}: has other names in the layers below: in the layer it is a file of its own`,
    );
  }
  if (image !== undefined) {
    const use = live ? 'the mount is served from it until it is unmounted' : 'it may be removed';
    lines.push(`  the frozen upper is ${frozen}: ${use}`);
  }
  lines.push(`  next time: -o ${optionsOf(done)}`);
  return lines.join('\n');
}
