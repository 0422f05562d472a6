// `varve image build`: a directory, an archive or a dump becomes an EROFS image.
// Run by main.ts; tree/source.ts reads, erofs/write.ts writes; this file says what is going on.
// Manual: image-commands.ts.

import { type BuildReport, buildImage } from '../erofs/write.js';
import {
  BuildOptionError,
  type BuildOptions,
  type BuildProgress,
  type Compression,
  type FileChoice,
  parseCompression,
} from '../erofs/write-options.js';
import { SysError } from '../linux/errno.js';
import { MountError } from '../stack/errors.js';
import { compileExcludes } from '../tree/exclude.js';
import { openTreeSource } from '../tree/source.js';
import { type SourceTree, walk } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { asMountError } from './image.js';
import { buildComposefs, COMPOSEFS_FLAGS, checkComposefsFlags } from './image-build-composefs.js';
import { counted, print, remark, size } from './output.js';
import { StatusLine } from './status-line.js';

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
    const apart = report.blobBytes > 0 ? ` (${size(report.blobBytes)} of it in the blob)` : '';
    remark(
      given,
      `${out}: ${counted(report.inodes, 'object')}, ${size(report.fileBytes)} in ${size(all)}${apart}, ${part.toFixed(0)} %, ${seconds.toFixed(1)} s`,
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
function buildError(error: unknown, path: string): unknown {
  if (error instanceof BuildOptionError) {
    return new MountError('option', `image build: ${error.message}`);
  }
  if (error instanceof RangeError) return new MountError('layer', error.message, { cause: error });
  return asMountError(error, path);
}

function buildOptions(given: Arguments, meter: Meter | undefined): BuildOptions {
  const { compression, choose } = compressionOf(given.values('compress'));
  const number = (flag: string): number | undefined => numberOf(given, flag);
  const root = given.has('all-root') ? 0 : undefined;
  return {
    compression,
    choose,
    pclusterSize: number('cluster'),
    tailPacking: given.has('tail-packing'),
    fragments: given.has('fragments') ? 'tails' : undefined,
    dedupe: given.has('dedupe'),
    chunkSize: number('chunksize'),
    blob: given.value('blobdev'),
    uid: number('force-uid') ?? root,
    gid: number('force-gid') ?? root,
    time: number('time'),
    uuid: uuidOf(given.value('uuid')),
    volumeName: labelOf(given.value('label')),
    workers: number('threads'),
    onProgress: meter?.building.bind(meter),
  };
}

/** `-z ALGORITHM[,LEVEL]` is for all files, `-z ALGORITHM[,LEVEL]:PATH` for those below PATH. */
function compressionOf(texts: readonly string[]): Pick<BuildOptions, 'compression' | 'choose'> {
  const compression: Compression[] = [];
  const rules: { path: string; choice: FileChoice }[] = [];
  let standard: FileChoice = { compression: -1 };
  for (const text of texts) {
    const [, method = text, path] = /^([^:]*):(.*[^0-9].*)$/s.exec(text) ?? [];
    const parsed = parse(method);
    const choice: FileChoice = {
      compression: parsed === undefined ? -1 : compression.push(parsed) - 1,
    };
    if (path === undefined) standard = choice;
    else
      rules.push({
        path: `/${Buffer.from(path)
          .toString('latin1')
          .replace(/^\/+|\/+$/g, '')}`,
        choice,
      });
  }
  if (rules.length === 0 && compression.length <= 1) return { compression };
  return {
    compression,
    choose: (path) =>
      rules.findLast((rule) => path === rule.path || path.startsWith(`${rule.path}/`))?.choice ??
      standard,
  };
}

function parse(text: string): Compression | undefined {
  try {
    return parseCompression(text);
  } catch (error) {
    throw new MountError('option', `-z: ${(error as Error).message}`);
  }
}

function numberOf(given: Arguments, flag: string): number | undefined {
  const text = given.value(flag);
  if (text === undefined) return undefined;
  const [, digits, unit = ''] = /^(-?\d+)([kKmM]?)$/.exec(text) ?? [];
  if (digits === undefined) {
    throw new MountError('option', `--${flag}=${text}: must be a number`);
  }
  return Number(digits) * { '': 1, k: 1024, m: 1024 * 1024 }[unit.toLowerCase() as '' | 'k' | 'm'];
}

function uuidOf(text: string | undefined): Uint8Array | undefined {
  if (text === undefined) return undefined;
  const hex = text.replaceAll('-', '');
  if (!/^[0-9a-fA-F]{32}$/.test(hex)) {
    throw new MountError('option', `--uuid=${text}: must be 32 hex digits`);
  }
  return Buffer.from(hex, 'hex');
}

function labelOf(text: string | undefined): string | undefined {
  return text === undefined ? undefined : Buffer.from(text).toString('latin1');
}

/** What is going on, for a terminal. */
class Meter {
  readonly #line = new StatusLine(false);
  #started = 0;

  reading(names: number): void {
    this.show(`reading: ${counted(names, 'name')}`);
  }

  building(p: BuildProgress): void {
    const now = performance.now();
    if (this.#started === 0) this.#started = now;
    const seconds = (now - this.#started) / 1000;
    const rate = p.bytesIn / Math.max(seconds, 0.001);
    const left = rate > 0 ? (p.bytes - p.bytesIn) / rate : 0;
    const percent = p.bytes === 0 ? 100 : Math.floor((100 * p.bytesIn) / p.bytes);
    this.show(
      `${percent} %  ${p.filesDone}/${counted(p.files, 'file')}  ${size(p.bytesIn)} to ${size(p.bytesOut)}  ${size(rate)}/s  ${Math.ceil(left)} s left`,
    );
  }

  show(text: string): void {
    this.#line.show(text);
  }

  end(): void {
    this.#line.end();
  }
}
