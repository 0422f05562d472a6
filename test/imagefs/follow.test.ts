import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { objectPath } from '../../src/store/objects.js';
import { verityDigest } from '../../src/store/verity.js';
import { readTree } from '../oracle/tree.js';
import { requires } from '../support/requires.js';
import { AT, mapShared, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { type ServedComposefs, serveComposefs } from './child.js';
import { BIG, contentOf, digestOf, makeSample, objectOf, type Sample, SMALL } from './sample.js';
import type { ServeComposefs } from './serve-composefs.js';

const skip = requires({ root: true, features: ['fuse'] });
const skipKernel = requires({ root: true, features: ['fuse', 'erofs', 'overlayfs', 'loop'] });

/** TMPFS_MAGIC of statfs(2). */
const TMPFS = 0x01021994;

interface Mounted {
  readonly sample: Sample;
  readonly served: ServedComposefs;
  readonly path: (name: string) => string;
}

async function follow(
  t: TestContext,
  more: Partial<ServeComposefs> = {},
  version: 0 | 1 = 1,
): Promise<Mounted> {
  const folder = tempDir(t);
  const sample = makeSample(folder, version);
  const mountpoint = join(folder, 'mnt');
  mkdirSync(mountpoint);
  const { image, objects } = sample;
  const served = await serveComposefs(mountpoint, {
    image,
    objects: [objects],
    serve: 'follow',
    verify: true,
    ...more,
  });
  return { sample, served, path: (name) => join(mountpoint, name) };
}

/** Asserts that reading gives EIO, and that the log names file and object. */
async function refused({ served, path, sample }: Mounted, name: string, size: number) {
  assert.throws(() => readFileSync(path(name)), { code: 'EIO' }, name);
  await served.logged(`/${name}: `, objectOf(sample, size), 'EIO');
}

/** Changes one byte of a file and keeps its size and its mtime. */
function flip(file: string, at: number): void {
  const { atime, mtime } = statSync(file);
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] = (byte[0] as number) ^ 0x10;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
  utimesSync(file, atime, mtime);
}

const treeOf = (folder: string) => {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    return readTree(root, () => true);
  } finally {
    must(sys.close(root));
  }
};

/** Files where the kernel looks for content elsewhere than here, each for its reason. */
const otherwise = [
  'objects/missing',
  'objects/nowhere',
  'objects/outside',
  'objects/renamed',
  'objects/shorter',
];

for (const version of [0, 1] as const) {
  for (const passthrough of [true, false]) {
    const how = passthrough ? 'by passthrough' : 'through the server';
    test(`shows what kernel EROFS and overlayfs show: version ${version}, content ${how}`, {
      skip: skipKernel,
    }, async (t) => {
      const mounted = await follow(t, { serveOptions: { passthrough } }, version);
      const ours = treeOf(mounted.served.mountpoint);
      assert.deepEqual(ours.contradictions, []);
      const { image, objects } = mounted.sample;
      const folder = tempDir(t);
      const erofs = join(folder, 'erofs');
      const overlay = join(folder, 'overlay');
      for (const path of [erofs, overlay]) mkdirSync(path);
      execFileSync('mount', ['-t', 'erofs', '-o', 'ro,loop', image, erofs]);
      const options = `ro,metacopy=on,redirect_dir=follow,lowerdir=${erofs}::${objects}`;
      execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', options, overlay]);
      const kernel = treeOf(overlay);
      for (const name of otherwise) {
        assert.ok(ours.lines.delete(name) && kernel.lines.delete(name), name);
      }
      // What the kernel lists and then does not give (user attributes of other types) is not listed here.
      const theirs = [...kernel.lines].map(([name, line]) => [
        name,
        line.replaceAll(/ user\.[a-z.]+=ENODATA/g, ''),
      ]);
      assert.deepEqual([...ours.lines].sort(), theirs.sort());
      assert.ok(ours.lines.size > 300);
      for (const name of ['', 'dir', 'dir/sub', 'many', 'links/symlink', 'dir/file', 'big']) {
        const [a, b] = [mounted.path(name), join(overlay, name)].map((path) => lstatSync(path));
        for (const key of ['nlink', 'size', 'blocks', 'rdev'] as const) {
          assert.equal(a?.[key], b?.[key], `${key} of ${name}`);
        }
      }
      execFileSync('umount', [overlay, erofs]);
      await mounted.served.end();
    });
  }
}

test('an object is found by its digest, never by a path that the image names', {
  skip,
}, async (t) => {
  const mounted = await follow(t);
  const { path, served } = mounted;
  assert.deepEqual(readFileSync(path('objects/renamed')), contentOf(5000));
  assert.deepEqual(readFileSync(path('objects/by-redirect')), contentOf(3000));
  for (const name of ['outside', 'nowhere']) {
    assert.throws(() => readFileSync(path(`objects/${name}`)), { code: 'EIO' });
    assert.equal(statSync(path(`objects/${name}`)).size, 3000);
    await served.logged(`/objects/${name}: `, 'not the name of an object');
  }
  assert.throws(() => readFileSync(path('objects/missing')), { code: 'EIO' });
  assert.equal(statSync(path('objects/missing')).size, 4001);
  await served.logged('/objects/missing: ', objectPath(digestOf(4001)), 'missing');
  assert.throws(() => readFileSync(path('objects/shorter')), { code: 'EIO' });
  await served.logged('/objects/shorter: ', 'has 5000 bytes, the image says 4000');
  await served.end();
});

for (const passthrough of [true, false]) {
  for (const [name, size] of [
    ['dir/file', SMALL],
    ['big', BIG],
    ['objects/by-redirect', 3000],
  ] as const) {
    for (const at of [0, size >>> 1, size - 1]) {
      const how = passthrough ? 'by passthrough' : 'through the server';
      test(`byte ${at} of ${size} flipped: EIO and a line in the log, ${how}`, {
        skip,
      }, async (t) => {
        const mounted = await follow(t, { serveOptions: { passthrough } });
        const object = objectOf(mounted.sample, size);
        flip(object, at);
        await refused(mounted, name, size);
        // Refused again, and given once it is what it should be.
        await refused(mounted, name, size);
        flip(object, at);
        assert.deepEqual(readFileSync(mounted.path(name)), contentOf(size));
        // What was right is not taken for right when it changes.
        flip(object, at);
        await refused(mounted, name, size);
        await mounted.served.end();
      });
    }
  }
}

test('an object that is replaced, cut or lengthened is refused', { skip }, async (t) => {
  const mounted = await follow(t);
  const object = objectOf(mounted.sample, SMALL);
  assert.deepEqual(readFileSync(mounted.path('dir/file')), contentOf(SMALL));
  truncateSync(object, SMALL - 1);
  await refused(mounted, 'dir/file', SMALL);
  truncateSync(object, SMALL + 1);
  // By whichever of its names.
  assert.throws(() => readFileSync(mounted.path('dir/linked')), { code: 'EIO' });
  await mounted.served.logged(object, `has ${SMALL + 1} bytes`, 'EIO');
  await mounted.served.end();
});

test('an object that changes while it is open gives no byte of the change', { skip }, async (t) => {
  const mounted = await follow(t, { serveOptions: { passthrough: false } });
  const object = objectOf(mounted.sample, BIG);
  const fd = openSync(mounted.path('big'), 'r');
  const page = Buffer.alloc(4096);
  readSync(fd, page, 0, page.length, 0);
  assert.deepEqual(page, contentOf(BIG).subarray(0, 4096));
  flip(object, BIG - 10);
  assert.throws(() => readSync(fd, page, 0, page.length, BIG - 4096), { code: 'EIO' });
  await mounted.served.logged('/big: ', object, 'changed while it was open');
  closeSync(fd);
  await refused(mounted, 'objects/same-as-big', BIG);
  await mounted.served.end();
});

test('an object that is changed through a mapping whose pages were dirty before is refused', {
  skip,
}, async (t) => {
  const mounted = await follow(t, { serveOptions: { passthrough: false } });
  const object = objectOf(mounted.sample, BIG);
  if (statfsSync(object).type === TMPFS) {
    t.skip('on tmpfs a store to a mapping changes no times');
    return;
  }
  const fd = openSync(object, 'r+');
  const mapping = mapShared(fd, BIG, true);
  assert.ok(typeof mapping !== 'number');
  const at = BIG - 10;
  const byte = mapping.bytes[at] as number;
  mapping.bytes[at] = byte;
  // Old enough for its times to be believed.
  await sleep(300);
  assert.deepEqual(readFileSync(mounted.path('big')), contentOf(BIG));
  mapping.bytes[at] = byte ^ 0x10;
  await refused(mounted, 'objects/same-as-big', BIG);
  mapping.unmap();
  closeSync(fd);
  await mounted.served.end();
});

test('what stands in the place of an object is not followed, waited for or read', {
  skip,
}, async (t) => {
  const mounted = await follow(t);
  const { sample, path, served } = mounted;
  const object = objectOf(sample, SMALL);
  const elsewhere = `${sample.objects}.elsewhere`;
  renameSync(object, elsewhere);
  symlinkSync(elsewhere, object);
  const gone = (): void => assert.throws(() => readFileSync(path('dir/file')), { code: 'EIO' });
  gone();
  rmSync(object);
  execFileSync('mkfifo', [object]);
  gone();
  rmSync(object);
  mkdirSync(object);
  gone();
  rmSync(object, { recursive: true });
  gone();
  await served.logged('/dir/file: ', 'missing');
  await served.logged('/dir/file: ', object, 'no regular file');
  renameSync(elsewhere, object);
  assert.deepEqual(readFileSync(path('dir/file')), contentOf(SMALL));
  await served.end();
});

test('a folder XX that is a symbolic link is not followed', { skip }, async (t) => {
  const mounted = await follow(t);
  const { objects } = mounted.sample;
  const folder = join(objects, digestOf(SMALL).slice(0, 2));
  renameSync(folder, `${objects}.moved`);
  symlinkSync(`${objects}.moved`, folder);
  await refused(mounted, 'dir/file', SMALL);
  await mounted.served.end();
});

test('objects are looked for in every folder', { skip }, async (t) => {
  const folder = tempDir(t);
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  const { objects } = makeSample(folder);
  const mounted = await follow(t, { objects: [empty, objects] });
  assert.deepEqual(readFileSync(mounted.path('big')), contentOf(BIG));
  await mounted.served.end();
});

test('without comparing, content is given as it is', { skip }, async (t) => {
  const mounted = await follow(t, { verify: false });
  flip(objectOf(mounted.sample, SMALL), 5);
  const found = readFileSync(mounted.path('dir/file'));
  assert.equal(found.length, SMALL);
  assert.notDeepEqual(found, contentOf(SMALL));
  await mounted.served.end();
});

test('many readers of one object that is being hashed all get it, and nobody else waits', {
  skip,
}, async (t) => {
  const mounted = await follow(t);
  const object = objectOf(mounted.sample, BIG);
  rmSync(object);
  const readers = Array.from({ length: 12 }, (_, i) =>
    spawn('cat', [mounted.path(i % 2 === 0 ? 'big' : 'objects/same-as-big')], { stdio: 'ignore' }),
  );
  const codes = await Promise.all(readers.map(async (child) => (await once(child, 'exit'))[0]));
  assert.deepEqual(new Set(codes), new Set([1]));
  writeFileSync(object, contentOf(BIG));
  const hashes = Array.from({ length: 12 }, (_, i) =>
    spawn('cmp', [mounted.path(i % 2 === 0 ? 'big' : 'objects/same-as-big'), object]),
  );
  assert.equal(readFileSync(mounted.path('white/shown'), 'latin1'), 'abc');
  const results = await Promise.all(hashes.map(async (child) => (await once(child, 'exit'))[0]));
  assert.deepEqual(new Set(results), new Set([0]));
  await mounted.served.end();
});

test('opening, reading and closing in any order leaves no descriptor behind', {
  skip,
}, async (t) => {
  const mounted = await follow(t);
  const pid = mounted.served.pid;
  const count = (): number => readdirSync(`/proc/${pid}/fd`).length;
  const before = count();
  const names = ['big', 'dir/file', 'objects/by-redirect', 'objects/renamed', 'white/shown'];
  const fds = Array.from({ length: 200 }, (_, i) =>
    openSync(mounted.path(names[i % names.length] as string), 'r'),
  );
  for (const fd of fds) assert.ok(fstatSync(fd).size > 0);
  for (const fd of fds) closeSync(fd);
  // One an object, the pipes of the worker threads and what those open.
  assert.ok(count() - before < 30, `${count()} after ${before}`);
  await mounted.served.end();
});

test('nothing can be written', { skip }, async (t) => {
  const mounted = await follow(t);
  for (const flags of ['r+', 'a', 'w']) {
    assert.throws(() => openSync(mounted.path('white/shown'), flags), { code: 'EROFS' });
  }
  assert.throws(() => mkdirSync(mounted.path('new')), { code: 'EROFS' });
  await mounted.served.end();
});

test('the digest that is named is compared, when it is opened and when it is read', {
  skip,
}, async (t) => {
  const folder = tempDir(t);
  const { image } = makeSample(folder);
  const digest = verityDigest(readFileSync(image)).toString('hex');
  const wrong = digest.replace(/^./, (first) => (first === '0' ? '1' : '0'));
  await assert.rejects(follow(t, { image, digest: wrong }), (error: Error) =>
    error.message.includes(`has the fs-verity digest ${digest}, not the one that is named`),
  );
  const mounted = await follow(t, { image, digest });
  assert.equal(readFileSync(mounted.path('white/shown'), 'latin1'), 'abc');
  // Every byte but those that were read: nothing of it is ever shown.
  writeFileSync(image, Buffer.alloc(statSync(image).size, 0x5a));
  assert.throws(() => readdirSync(mounted.path('many')), { errno: -117 });
  await mounted.served.logged('was changed since');
  await mounted.served.end();
});

test('what is no composefs image, or no folder of objects, is refused in one line', {
  skip,
}, async (t) => {
  const folder = tempDir(t);
  const zeros = join(folder, 'zeros');
  writeFileSync(zeros, Buffer.alloc(8192));
  await assert.rejects(follow(t, { image: zeros }), /is no composefs image/);
  await assert.rejects(follow(t, { image: join(folder, 'none') }), /no such file or directory/);
  await assert.rejects(follow(t, { objects: [zeros] }), /objects: .*zeros: not a directory/);
  const { image } = makeSample(folder);
  truncateSync(image, 1100);
  await assert.rejects(follow(t, { image }), /cannot be read as a composefs image/);
});
