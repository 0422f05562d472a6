// `varve split`: one tree is cut into layers by rules.
// Run by main.ts; ops/layers/split.ts cuts, ops/layers/write-cuts.ts writes.
// Manual: merge-commands.ts.

import { readFileSync } from 'node:fs';
import { imageTree } from '../erofs/to-tree.js';
import { type Cut, split } from '../ops/layers/split.js';
import { type Rules, readRules } from '../ops/layers/split-rules.js';
import { type CutFormat, placeForCuts, writeCuts } from '../ops/layers/write-cuts.js';
import { bytesText } from '../report/words.js';
import { MountError, reasonOf } from '../stack/errors.js';
import { openImage } from '../stack/image-open.js';
import { isErofs } from '../stack/images.js';
import { openTreeSource } from '../tree/source.js';
import { count, type SourceTree } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { buildOptions } from './build-options.js';
import { EXIT } from './exit-codes.js';
import { buildError } from './image-build.js';
import { counted, print, remark, table } from './output.js';
import { StatusLine } from './status-line.js';

export async function run(given: Arguments): Promise<number> {
  const source = given.operands[0] as string;
  const into = given.value('into');
  const isDry = given.has('dry-run');
  if (into === undefined && !isDry) {
    throw new MountError('option', 'split: nothing named to make: write --into DIR');
  }
  const format = formatOf(given);
  const rules = rulesOf(given);
  const build = buildOptions(given, undefined);
  if (format !== 'erofs' && given.has('compress')) {
    throw new MountError('option', '--compress: is for EROFS images: write --format erofs as well');
  }
  if (into !== undefined) placeForCuts(into);
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  const onProgress = (text: string): void => line.show(text);
  const started = performance.now();
  const tree = open(source, line);
  try {
    if (given.has('link') && (tree.kind !== 'folder' || format !== 'directory')) {
      throw new MountError(
        'option',
        '--link: is for directories made of a directory: leave it out',
      );
    }
    const { cuts, followed } = split(tree.root, rules);
    const warnings =
      into === undefined || isDry
        ? []
        : await writeCuts(cuts, into, {
            format,
            build,
            link: given.has('link') ? source : undefined,
            onProgress,
          });
    line.end();
    for (const warning of warnings) remark(given, warning);
    if (followed > 0) {
      remark(given, `${counted(followed, 'hard link')} followed the first name of its file`);
    }
    tell(given, cuts, into ?? '', format, (performance.now() - started) / 1000);
    return EXIT.ok;
  } catch (error) {
    throw buildError(error, into ?? source);
  } finally {
    line.end();
    tree.close();
  }
}

function open(source: string, line: StatusLine): SourceTree {
  try {
    if (source !== '-' && isImageFile(source)) {
      const { image, close } = openImage(source);
      return { root: imageTree(image, image.inode(image.rootNid)), kind: 'dump', close };
    }
    const onProgress = (names: number): void => line.show(`reading: ${counted(names, 'name')}`);
    return openTreeSource(source, { onProgress });
  } catch (error) {
    throw buildError(error, source);
  }
}

function isImageFile(path: string): boolean {
  try {
    return isErofs(path);
  } catch {
    // A directory, or nothing: whoever opens it says what is wrong.
    return false;
  }
}

function formatOf(given: Arguments): CutFormat {
  const format = given.value('format') ?? 'directory';
  if (format === 'directory' || format === 'erofs' || format === 'tar') return format;
  throw new MountError('option', `--format=${format}: one of directory, erofs, tar`);
}

function rulesOf(given: Arguments): Rules {
  const name = given.value('rules');
  let file: { text: string; name: string } | undefined;
  if (name !== undefined) {
    try {
      file = { name, text: readFileSync(name, 'utf8') };
    } catch (error) {
      throw new MountError('option', `--rules=${name}: ${reasonOf(error)}: check the path`);
    }
  }
  return readRules(given.values('rule'), file, given.value('rest') ?? 'rest');
}

const ENDINGS: Readonly<Record<CutFormat, string>> = {
  directory: '',
  erofs: '.erofs',
  tar: '.tar',
};

function tell(
  given: Arguments,
  cuts: readonly Cut[],
  into: string,
  format: CutFormat,
  seconds: number,
): void {
  const layers = cuts.map(({ name, root, bytes }) => {
    const { directories, files, symlinks, others } = count(root);
    const path = into === '' ? undefined : `${into}/${name}${ENDINGS[format]}`;
    return { name, path, directories, files, symlinks, others, bytes };
  });
  const result = { into: into || undefined, format, dryRun: given.has('dry-run'), seconds, layers };
  if (given.has('json')) print(given, result, () => '');
  else if (!given.has('quiet')) {
    const rows = layers.map(({ name, directories, files, symlinks, others, bytes }) => [
      name,
      counted(files, 'file'),
      counted(symlinks + others, 'other'),
      `${directories} ${directories === 1 ? 'directory' : 'directories'}`,
      bytesText(bytes),
    ]);
    print(given, undefined, () => table(rows));
  }
}
