// Images of this writer over its options: the kernel's mount and this reader show the tree they were made of.
// fsck.erofs of Debian (1.5) accepts those without compression or with LZ4; it knows nothing newer.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ErofsImage } from '../../src/erofs/image.js';
import { checksumMatches } from '../../src/erofs/superblock.js';
import { buildImage } from '../../src/erofs/write.js';
import { type BuildOptions, parseCompression } from '../../src/erofs/write-options.js';
import { FileSource } from '../../src/linux/file-source.js';
import { scan } from '../../src/tree/scan.js';
import { campaignSource } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { listFolder, listImage, listMount } from './listing.js';
import { makeSample } from './sample.js';

const z = (...names: string[]): BuildOptions => ({
  compression: names.map((name) => parseCompression(name)).filter((one) => one !== undefined),
});

interface Row {
  readonly name: string;
  readonly options: BuildOptions;
  /** The whole of it lies in a blob beside the image. */
  readonly blob?: boolean;
}

const row = (name: string, options: BuildOptions, blob = false): Row => ({ name, options, blob });
const big = { pclusterSize: 65536 };

const matrix: readonly Row[] = [
  row('none', {}),
  row('none, one time for all', { time: 1_000_000_000, uid: 0, gid: 0 }),
  row('none, no shared xattrs', { xattrTolerance: Number.POSITIVE_INFINITY, xattrFilter: false }),
  row('none, all xattrs shared', { xattrTolerance: 0 }),
  row('none, long xattr prefixes', { xattrPrefixes: ['trusted.overlay.', 'user.ke', 'user.s'] }),
  row('none, dedupe', { dedupe: true }),
  row('chunks of 4096', { chunkSize: 4096 }),
  row('chunks of 1 MiB', { chunkSize: 1 << 20 }),
  row('blob, chunks of 4096', { chunkSize: 4096 }, true),
  row('blob, chunks of 64 KiB, one time', { chunkSize: 65536, time: 0 }, true),
  row('lz4', z('lz4')),
  row('lz4hc', z('lz4hc')),
  row('lz4hc,12', z('lz4hc,12')),
  row('lz4hc of 8 KiB', { ...z('lz4hc,4'), pclusterSize: 8192 }),
  row('lz4hc of 64 KiB', { ...z('lz4hc'), ...big }),
  row('lz4hc of 1 MiB', { ...z('lz4hc'), pclusterSize: 1 << 20 }),
  row('lz4hc, tails inline', { ...z('lz4hc'), tailPacking: true }),
  row('lz4hc of 64 KiB, tails inline', { ...z('lz4hc'), ...big, tailPacking: true, time: 5 }),
  row('lz4hc, fragments', { ...z('lz4hc'), fragments: 'tails' }),
  row('lz4hc of 64 KiB, fragments', { ...z('lz4hc'), ...big, fragments: 'tails' }),
  row('lz4 of 1 MiB, all fragments', { ...z('lz4'), pclusterSize: 1 << 20, fragments: 'all' }),
  row('lz4, fragments, prefixes', {
    ...z('lz4'),
    fragments: 'tails',
    xattrPrefixes: ['trusted.overlay.'],
  }),
  row('lz4hc, dedupe', { ...z('lz4hc'), dedupe: true }),
  row('lz4 of 64 KiB, dedupe, tails', { ...z('lz4'), ...big, dedupe: true, tailPacking: true }),
  row('lz4 of 16 KiB, dedupe, fragments', {
    ...z('lz4'),
    pclusterSize: 16384,
    dedupe: true,
    fragments: 'tails',
  }),
  row('lz4 and lz4hc, pclusters of two sizes', {
    ...z('lz4hc', 'lz4'),
    ...big,
    tailPacking: true,
    choose: (_path, size) => ({
      compression: size % 2,
      pclusterSize: size % 3 === 0 ? 4096 : undefined,
    }),
  }),
  row('zstd', z('zstd')),
  row('zstd of 128 KiB, tails inline', {
    ...z('zstd,9'),
    pclusterSize: 1 << 17,
    tailPacking: true,
  }),
  row('zstd of 64 KiB, fragments, dedupe', {
    ...z('zstd'),
    ...big,
    fragments: 'tails',
    dedupe: true,
  }),
  row('deflate', z('deflate')),
  row('deflate of 32 KiB, tails inline', {
    ...z('deflate,9'),
    pclusterSize: 1 << 15,
    tailPacking: true,
  }),
  row('lzma', z('lzma,1')),
  row('lzma of 64 KiB, fragments', { ...z('lzma,2'), ...big, fragments: 'tails' }),
  row('several methods, one for each file', {
    ...z('lz4', 'zstd', 'deflate', 'lzma,0'),
    ...big,
    choose: (path, size) => ({
      compression: path.endsWith('/zeros') || size % 5 === 4 ? -1 : size % 5,
      pclusterSize: size % 2 === 0 ? 4096 : 65536,
    }),
  }),
];

const skip = requires({ root: true, features: ['loop', 'erofs'], packages: ['erofs-utils'] });
let folder = '';
let source = '';
let expected: string[] = [];

before(() => {
  if (skip !== false) return;
  folder = makeTempDir();
  source = campaignSource() ?? join(folder, 'source');
  if (campaignSource() === undefined) {
    mkdirSync(source);
    makeSample(source);
  }
  expected = listFolder(source);
});
after(() => {
  if (folder !== '') removeTempDir(folder);
});

/** What an image keeps of a folder: all but inode numbers, blocks and the sizes of directories. */
function kept(lines: readonly string[], options: BuildOptions): string[] {
  return lines.map((line) => {
    let text = line.replace(/ ino=\d+/, '').replace(/ \(\d+\)/, '');
    text = text.replace(/^(\S* 4\d{4} \d+ \S+) \d+/, '$1 -');
    if (options.time !== undefined)
      text = text.replace(/mtime=\S+/, `mtime=${options.time}000000000`);
    if (options.uid === 0) text = text.replace(/^(\S* \d+ \d+) \d+:\d+/, '$1 0:0');
    return text.replace('mtime=0000000000', 'mtime=0');
  });
}

async function build(out: string, options: BuildOptions): Promise<void> {
  const tree = scan(source);
  try {
    await buildImage(tree.root, options, out);
  } finally {
    tree.close();
  }
}

matrix.forEach(({ name, options: given, blob: hasBlob }, number) => {
  test(name, { skip }, async () => {
    const image = join(folder, `${number}.erofs`);
    const blob = hasBlob ? `${image}.blob` : undefined;
    const options = { ...given, blob };
    await build(image, options);
    const shown = listMount(image, blob);
    assert.deepEqual(kept(shown, {}), kept(expected, options));

    const main = FileSource.open(image);
    const devices = blob === undefined ? [] : [FileSource.open(blob)];
    try {
      const opened = ErofsImage.open(main, devices);
      assert.equal(checksumMatches(main, opened.superblock), true);
      assert.deepEqual(listImage(opened), shown);
    } finally {
      main.close();
      for (const device of devices) device.close();
    }
    const methods = new Set(options.compression?.map(({ method }) => method));
    methods.delete('lz4');
    methods.delete('lz4hc');
    const isNew =
      options.xattrPrefixes ?? options.fragments ?? (options.dedupe && options.compression);
    if (methods.size === 0 && blob === undefined && !isNew) {
      execFileSync('fsck.erofs', ['--extract', image], { stdio: ['ignore', 'ignore', 'pipe'] });
    }
    // Without threads, and again, the bytes are the same.
    const again = `${image}.again`;
    const blobAgain = blob === undefined ? undefined : `${again}.blob`;
    await build(again, { ...options, blob: blobAgain, workers: 0 });
    execFileSync('cmp', [image, again], { stdio: ['ignore', 'ignore', 'inherit'] });
    if (blob !== undefined && blobAgain !== undefined) {
      execFileSync('cmp', [blob, blobAgain], { stdio: ['ignore', 'ignore', 'inherit'] });
      rmSync(blob);
      rmSync(blobAgain);
    }
    rmSync(image);
    rmSync(again);
    assert.deepEqual(
      readdirSync(folder).filter((entry) => entry.startsWith('.')),
      [],
      'nothing temporary is left',
    );
  });
});
