// Images of mkfs.erofs over its options: what this reader and the mount it serves show is what the kernel's mount shows.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { checkImage } from '../../src/erofs/check.js';
import { ErofsImage } from '../../src/erofs/image.js';
import { FileSource } from '../../src/linux/file-source.js';
import { type Cli, cliIn } from '../cli/cli.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { listFolder, listImage, listMount } from './listing.js';
import { makeSample } from './sample.js';

/** Options of mkfs.erofs 1.5, a combination a row. `BLOB` is a file of its own. */
const matrix: readonly string[] = [
  '',
  '-x-1',
  '-x1',
  '-T0',
  '-E force-inode-compact --all-root -T0',
  '-E force-inode-extended',
  '-E nosbcrc',
  '-E noinline_data',
  '-E force-chunk-indexes --chunksize=4096',
  '--chunksize=4096',
  '--chunksize=65536',
  '--chunksize=1048576 -E force-inode-extended',
  '--chunksize=4096 --blobdev=BLOB',
  '--chunksize=131072 --blobdev=BLOB -E force-inode-compact --all-root -T1',
  '-z lz4',
  '-z lz4hc,12',
  '-z lz4 -E legacy-compress',
  '-z lz4 -E legacy-compress,force-inode-extended',
  '-z lz4 -C 16384',
  '-z lz4hc -C 65536',
  '-z lz4hc -C 1048576',
  '-z lz4 -E noinline_data',
  '-z lz4 -E ztailpacking',
  '-z lz4hc -C 65536 -E ztailpacking',
  '-z lz4 -E fragments',
  '-z lz4hc -C 65536 -E fragments',
  '-z lz4hc -C 1048576 -E fragments',
  '-z lz4 -E all-fragments',
  '-z lz4 -C 131072 -E all-fragments,ztailpacking',
  '-z lz4 -E dedupe',
  '-z lz4 -C 65536 -E dedupe',
  '-z lz4 -C 16384 -E dedupe,fragments,ztailpacking',
  '-z lz4 -C 65536 -E all-fragments,dedupe,force-inode-extended',
  '-z lz4 -E legacy-compress,ztailpacking',
  '-z lz4 --max-extent-bytes=65536',
];

const skip = requires({ root: true, features: ['loop', 'erofs'], packages: ['erofs-utils'] });
let folder = '';
let cli: Cli;
let source = '';

before(() => {
  if (skip !== false) return;
  folder = makeTempDir();
  cli = cliIn(folder);
  source = join(folder, 'source');
  mkdirSync(source);
  makeSample(source);
});
after(() => {
  if (folder !== '') removeTempDir(folder);
});

/** The tree of an image as its own mount shows it. */
function listServed(image: string, blob: string | undefined): string[] {
  const mountpoint = `${image}.served`;
  mkdirSync(mountpoint);
  const device = blob === undefined ? [] : ['--device', blob];
  const ran = cli.run('image', 'mount', '-q', '--backend=fuse', ...device, image, mountpoint);
  assert.equal(ran.code, 0, ran.err);
  try {
    return listFolder(mountpoint);
  } finally {
    execFileSync('umount', [mountpoint]);
  }
}

matrix.forEach((options, number) => {
  test(`mkfs.erofs ${options || 'without options'}`, { skip }, () => {
    const image = join(folder, `${number}.erofs`);
    const blob = options.includes('BLOB') ? `${image}.blob` : undefined;
    const args = options.split(' ').filter((word) => word !== '');
    const given = args.map((word) => word.replace('BLOB', blob ?? ''));
    execFileSync('mkfs.erofs', ['--quiet', ...given, image, source], { stdio: 'ignore' });
    const main = FileSource.open(image);
    const devices = blob === undefined ? [] : [FileSource.open(blob)];
    try {
      const expected = listMount(image, blob);
      const opened = ErofsImage.open(main, devices);
      const sum = opened.checksumMatches();
      assert.equal(sum, options.includes('nosbcrc') ? undefined : true);
      assert.deepEqual(listImage(opened), expected);
      assert.deepEqual(listServed(image, blob), expected);
      assert.deepEqual([...checkImage(opened)], []);
      // Small reads at odd places take another way: through the cache of pclusters.
      assert.deepEqual(listImage(opened, { chunk: 12_347 }), expected);
      if (blob === undefined) return;
      assert.throws(() => listImage(ErofsImage.open(main)), /extra device 1, which was not given/);
    } finally {
      main.close();
      for (const device of devices) device.close();
    }
  });
});
