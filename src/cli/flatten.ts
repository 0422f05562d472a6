// `varve flatten`: a stack becomes one directory, image or archive.
// Run by main.ts; ops/layers/flatten.ts makes the tree, ops/layers/tree-output.ts writes it.
// Manual: merge-commands.ts.

import { stackMeant } from '../named/resolve.js';
import { flatten } from '../ops/layers/flatten.js';
import {
  outputNamed,
  type TreeOutput,
  type Written,
  writeTree,
} from '../ops/layers/tree-output.js';
import { findStack, type NamedStack, openLayers } from '../ops/open-stack.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { locate } from '../stack/mounts-known.js';
import { count } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { buildOptions } from './build-options.js';
import { EXIT } from './exit-codes.js';
import { buildError } from './image-build.js';
import { counted, print, remark } from './output.js';
import { StatusLine } from './status-line.js';
import { withUserXattr } from './user-xattr.js';

export async function run(given: Arguments): Promise<number> {
  const into = given.value('into');
  if (into === undefined) {
    throw new MountError('option', 'flatten: nothing named to make: write --into NAME');
  }
  const output = outputNamed(into, given.has('force'));
  const build = buildOptions(given, undefined);
  refuseOthersFlags(given, output);
  const named = withUserXattr(given, await nameStack(given));
  if (named.mount !== undefined && named.layers.upperdir !== undefined) {
    remark(
      given,
      `${named.mount.mountpoint}: is mounted: what is written there meanwhile may be missing, or stop this`,
    );
  }
  const line = new StatusLine(given.has('quiet') || given.has('json'));
  const opened = openLayers(named);
  const started = performance.now();
  let written: Written;
  let counts: ReturnType<typeof count>;
  try {
    line.show('reading the layers');
    const tree = flatten(opened, { keepWhiteouts: given.has('keep-whiteouts') });
    counts = count(tree);
    const onProgress = (text: string): void => line.show(text);
    const isLayer = given.has('keep-whiteouts');
    written = await writeTree(tree, output, { build, isLayer, onProgress });
  } catch (error) {
    throw buildError(error, into);
  } finally {
    line.end();
    opened.close();
  }
  const seconds = (performance.now() - started) / 1000;
  for (const warning of written.warnings) remark(given, warning);
  if (into === '-') return EXIT.ok;
  const { directories, files, symlinks, others, bytes } = counts;
  const result = { ...written, seconds, directories, files, symlinks, others, fileBytes: bytes };
  if (given.has('json')) print(given, result, () => '');
  else {
    const part = written.bytes === undefined ? '' : ` in ${bytesText(written.bytes)}`;
    remark(
      given,
      `${into}: ${counted(counts.nodes, 'object')}, ${bytesText(bytes)}${part}, ${seconds.toFixed(1)} s`,
    );
    if (written.digest !== undefined) print(given, undefined, () => written.digest as string);
  }
  return EXIT.ok;
}

async function nameStack(given: Arguments): Promise<NamedStack> {
  const { operands } = given;
  const options = given.values('options');
  if (options.length > 0) {
    if (operands.length === 0) return findStack({ options });
    throw new MountError('option', `${operands[0]}: the stack is that of -o: name it in one way`);
  }
  const [first] = operands;
  if (first === undefined) {
    throw new MountError(
      'option',
      'flatten: no stack is named: write a mount point, -o lowerdir=...,upperdir=..., or LAYERs',
    );
  }
  const meant = operands.length > 1 ? undefined : await stackMeant(first);
  if (meant !== undefined && 'options' in meant) return findStack(meant);
  const located = meant === undefined ? undefined : await locate(meant.mount);
  if (located?.inside === '') return findStack({ mount: located.mount.mountpoint });
  return findStack({ layers: operands });
}

const IMAGE_FLAGS = ['compress', 'cluster', 'fragments', 'dedupe', 'time', 'uuid', 'label'];

function refuseOthersFlags(given: Arguments, { kind }: TreeOutput): void {
  const odd = kind === 'image' ? undefined : IMAGE_FLAGS.find((flag) => given.has(flag));
  if (odd === undefined) return;
  throw new MountError('option', `--${odd}: is for EROFS images: name one that ends in .erofs`);
}
