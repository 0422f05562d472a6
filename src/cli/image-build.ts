// `varve image build`: a directory, an archive or a dump becomes an EROFS image.
// Run by main.ts; tree/source.ts reads, erofs/write.ts writes; this file says what is going on.
// Manual: image-commands.ts.

import { type BuildReport, buildImage } from '../erofs/write.js';
import { BuildOptionError, type BuildOptions } from '../erofs/write-options.js';
import { SysError } from '../linux/errno.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { compileExcludes } from '../tree/exclude.js';
import { openTreeSource } from '../tree/source.js';
import { type SourceTree, walk } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { buildOptions, Meter } from './build-options.js';
import { EXIT } from './exit-codes.js';
import { asMountError } from './image.js';
import { buildComposefs, COMPOSEFS_FLAGS, checkComposefsFlags } from './image-build-composefs.js';
import { counted, print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const source = sourceOf(given);
  if (given.has('composefs')) return composefs(given, source);
  const odd = COMPOSEFS_FLAGS.find((flag) => given.has(flag));
  if (odd !== undefined) {
    throw new MountError('option', `--${odd} is for composefs images: write --composefs as well`);
  }
  const out = given.value('output');
  if (out === undefined) {
    throw new MountError('option', 'image build: no image named: write -o IMAGE');
  }
  const meter = given.has('quiet') || !process.stderr.isTTY ? undefined : new Meter();
  const options = buildOptions(given, meter);
  const tree = open(source, given, meter);
  const started = performance.now();
  let report: BuildReport;
  try {
    report = await buildImage(tree.root, options, out);
  } catch (error) {
    // What a system call says while the image is made is about the source: the output has errors of node:fs.
    throw buildError(error, error instanceof SysError ? source : out);
  } finally {
    meter?.end();
    tree.close();
  }
  const seconds = (performance.now() - started) / 1000;
  const { uuid, ...figures } = report;
  const result = { image: out, uuid: Buffer.from(uuid).toString('hex'), seconds, ...figures };
  if (given.has('json')) print(given, result, () => '');
  else {
    const all = report.bytes + report.blobBytes;
    const part = report.fileBytes === 0 ? 100 : (100 * all) / report.fileBytes;
    const apart = report.blobBytes > 0 ? ` (${bytesText(report.blobBytes)} of it in the blob)` : '';
    remark(
      given,
      `${out}: ${counted(report.inodes, 'object')}, ${bytesText(report.fileBytes)} in ${bytesText(all)}${apart}, ${part.toFixed(0)} %, ${seconds.toFixed(1)} s`,
    );
  }
  return EXIT.ok;
}

/** SOURCE, or the dump that a flag names. */
function sourceOf(given: Arguments): string {
  const [operand] = given.operands;
  const dump = given.value('from-dump');
  if (operand !== undefined && dump !== undefined) {
    throw new MountError('option', `--from-dump=${dump}: ${operand} is named as well: name one`);
  }
  const source = dump ?? operand;
  if (source === undefined) {
    throw new MountError(
      'option',
      'image build: no source named: write SOURCE, or --from-dump FILE',
    );
  }
  return source;
}

async function composefs(given: Arguments, source: string): Promise<number> {
  checkComposefsFlags(given);
  const meter = given.has('quiet') || !process.stderr.isTTY ? undefined : new Meter();
  const tree = open(source, given, meter);
  try {
    override(tree, buildOptions(given, undefined));
    return await buildComposefs(given, source, tree, (text) => meter?.show(text));
  } finally {
    meter?.end();
    tree.close();
  }
}

/** Gives all objects the owner and the time that were asked for. */
function override(tree: SourceTree, { uid, gid, time }: BuildOptions): void {
  if (uid === undefined && gid === undefined && time === undefined) return;
  walk(tree.root, (_path, node) => {
    node.uid = uid ?? node.uid;
    node.gid = gid ?? node.gid;
    if (time === undefined) return;
    node.mtime = time;
    node.mtimeNsec = 0;
  });
}

function open(source: string, given: Arguments, meter: Meter | undefined): SourceTree {
  try {
    const tree = openTreeSource(source, {
      excludes: compileExcludes({ globs: given.values('exclude') }),
      repeatedXattrs: given.has('composefs'),
      onProgress: meter?.reading.bind(meter),
    });
    if (given.has('no-xattrs')) dropXattrs(tree);
    if (given.value('from-dump') !== undefined && tree.kind !== 'dump') {
      tree.close();
      throw new MountError('option', `--from-dump=${source}: is no dump: name it as SOURCE`);
    }
    return tree;
  } catch (error) {
    meter?.end();
    throw buildError(error, source);
  }
}

function dropXattrs(tree: SourceTree): void {
  const pending = [tree.root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    node.xattrs = undefined;
    if (node.entries !== undefined) pending.push(...node.entries.values());
  }
}

/** As asMountError(), and what only a build says. @param path the source or the image. */
export function buildError(error: unknown, path: string): unknown {
  if (error instanceof BuildOptionError) {
    return new MountError('option', `image build: ${error.message}`);
  }
  if (error instanceof RangeError) return new MountError('layer', error.message, { cause: error });
  return asMountError(error, path);
}
