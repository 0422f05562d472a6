// Stores: layout, names, garbage collection and its limits, checks that find every fault, and who shares what.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type AddReport, addImage } from '../../src/store/add.js';
import { checkStore } from '../../src/store/check.js';
import { collectGarbage } from '../../src/store/gc.js';
import { holdImage, holdStore, pinImage } from '../../src/store/holds.js';
import {
  listImages,
  listRefs,
  publishImage,
  removeRef,
  requireName,
  resolveImage,
} from '../../src/store/images.js';
import { objectPath } from '../../src/store/objects.js';
import { initStore, Store } from '../../src/store/store.js';
import { imageUsage, storeUsage } from '../../src/store/usage.js';
import { verityDigest } from '../../src/store/verity.js';
import { add, makeNode, type TreeNode } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { addFolder, makeStore, noise, writeFiles, writeImage } from './stores.js';

const SHARED = noise(1, 5000);

/** A store with the images `a` and `b`, which have one file in common. */
async function twoImages(t: TestContext): Promise<{ store: Store; a: AddReport; b: AddReport }> {
  const store = makeStore(t);
  const first = tempDir(t);
  const second = tempDir(t);
  writeFiles(first, { 'in/shared': SHARED, own: noise(2, 3000), small: 'x' });
  writeFiles(second, { shared: SHARED, other: noise(3, 200), again: noise(3, 200) });
  const a = await addFolder(store, first, { name: 'a' });
  const b = await addFolder(store, second, { name: 'os/b' });
  return { store, a, b };
}

const objectOf = (store: Store, digest: string): string => join(store.objects, objectPath(digest));
const hexOf = (bytes: Uint8Array): string => verityDigest(bytes).toString('hex');
const faultsOf = async (store: Store): Promise<string[]> =>
  (await checkStore(store, { threads: 1 })).faults.map(
    ({ kind, where, what }) => `${kind}: ${where}: ${what}`,
  );

test('a new store has the layout of composefs-rs, and what is there is left alone', (t) => {
  const path = join(tempDir(t), 'new/store');
  assert.equal(initStore(path), true);
  assert.deepEqual(readdirSync(path).sort(), ['images', 'meta.json', 'objects', 'streams']);
  const meta = readFileSync(join(path, 'meta.json'), 'utf8');
  assert.deepEqual(JSON.parse(meta), {
    version: 1,
    algorithm: 'fsverity-sha256-12',
    features: { compatible: [], 'read-only-compatible': ['v1_erofs'], incompatible: [] },
    erofs_formats: { default: 1 },
  });
  assert.equal(initStore(path), false);
  assert.equal(readFileSync(join(path, 'meta.json'), 'utf8'), meta);
  // As a killed init leaves it.
  unlinkSync(join(path, 'meta.json'));
  rmSync(join(path, 'images'), { recursive: true });
  assert.equal(initStore(path), true);
  const used = tempDir(t);
  writeFiles(used, { file: 'x' });
  assert.throws(() => initStore(used), { name: 'StoreError', message: /has file and is no store/ });
  assert.throws(() => new Store(used), { message: /no store: make one by `varve store init/ });
  assert.throws(() => new Store(join(used, 'none')), { message: /no store/ });
});

test('stores of later kinds are refused, or not written', (t) => {
  const path = join(tempDir(t), 'store');
  initStore(path);
  const meta = join(path, 'meta.json');
  const good = JSON.parse(readFileSync(meta, 'utf8'));
  const rows: readonly (readonly [unknown, RegExp])[] = [
    [{ ...good, version: 2 }, /a store of version 2, 1 is known/],
    [{ ...good, algorithm: 'fsverity-sha256-16' }, /algorithm fsverity-sha256-16/],
    [{ ...good, features: { incompatible: ['new'] } }, /features new are not known/],
    [[], /has no version/],
    [null, /has no version/],
  ];
  for (const [value, message] of rows) {
    writeFileSync(meta, JSON.stringify(value));
    assert.throws(() => new Store(path), { name: 'StoreError', message });
  }
  writeFileSync(meta, '{');
  assert.throws(() => new Store(path), { message: /no JSON/ });
  writeFileSync(meta, JSON.stringify({ ...good, features: { 'read-only-compatible': ['new'] } }));
  const store = new Store(path);
  assert.throws(() => store.requireWritable(), { message: /cannot be written: its features new/ });
  writeFileSync(meta, JSON.stringify({ ...good, algorithm: 'fsverity-sha512-12' }));
  assert.equal(new Store(path).algorithm, 'sha512');
});

test('a digest store of mkcomposefs can be read and checked, not added to', async (t) => {
  const folder = tempDir(t);
  const hex = hexOf(SHARED);
  writeFiles(folder, { [objectPath(hex)]: SHARED });
  const store = new Store(folder);
  assert.deepEqual([store.isRepository, store.objects], [false, folder]);
  assert.deepEqual(await faultsOf(store), []);
  await assert.rejects(addFolder(store, folder), {
    message: /a digest store, which holds no images/,
  });
  writeFiles(folder, { [objectPath(hex)]: noise(9, 5000) });
  assert.match((await faultsOf(store)).join(), new RegExp(`^content: ${objectPath(hex)}: `));
});

test('images have digests and names; names have folders, and are replaced', async (t) => {
  const { store, a, b } = await twoImages(t);
  assert.equal(a.known, false);
  assert.deepEqual(listRefs(store), [
    { name: 'a', digest: a.digest },
    { name: 'os/b', digest: b.digest },
  ]);
  assert.equal(readlinkSync(join(store.path, 'images/refs/os/b')), `../../${b.digest}`);
  assert.equal(
    readlinkSync(join(store.path, 'images', a.digest)),
    `../objects/${objectPath(a.digest)}`,
  );
  assert.equal(hexOf(readFileSync(objectOf(store, a.digest))), a.digest);
  for (const asked of ['a', a.digest, `sha256:${a.digest}`, a.digest.slice(0, 8)]) {
    assert.equal(resolveImage(store, asked), a.digest, asked);
  }
  for (const asked of ['none', 'os', '00000000', a.digest.slice(0, 7), '']) {
    assert.throws(() => resolveImage(store, asked), { kind: 'absent' }, asked);
  }
  publishImage(store, b.digest, 'a');
  assert.equal(resolveImage(store, 'a'), b.digest);
  removeRef(store, 'os/b');
  assert.ok(!existsSync(join(store.path, 'images/refs/os')), 'an empty folder of names goes too');
  assert.throws(() => removeRef(store, 'os/b'), { kind: 'absent' });
  for (const bad of [
    '',
    '/x',
    'x/',
    'a//b',
    '.',
    '../x',
    'x/..',
    'f'.repeat(64),
    'n'.repeat(256),
    'two\nlines',
    'not\ufffdutf8',
  ]) {
    assert.throws(() => requireName(bad), { kind: 'name' }, bad);
  }
});

test('the same source gives the same image, and nothing new', async (t) => {
  const store = makeStore(t);
  const source = tempDir(t);
  writeFiles(source, { x: noise(4, 9999) });
  const first = await addFolder(store, source, { name: 'n' });
  const second = await addFolder(store, source, { name: 'n' });
  assert.deepEqual([second.digest, second.known, second.files.newObjects], [first.digest, true, 0]);
});

test('a tree that names objects is taken only when the store has them', async (t) => {
  const { store, a } = await twoImages(t);
  const hex = hexOf(SHARED);
  const treeOf = (fields: Partial<TreeNode>): TreeNode => {
    const root = makeNode(0o40755);
    add(root, 'f', makeNode(0o100644, { size: 5000, ...fields }));
    return root;
  };
  const good = await addImage(store, treeOf({ backing: { path: objectPath(hex) } }), writeImage);
  assert.notEqual(good.digest, a.digest);
  const rows: readonly (readonly [Partial<TreeNode>, RegExp])[] = [
    [{ backing: { path: objectPath('ab'.repeat(32)) } }, /"\/f": its object .* is missing/],
    [{ backing: { path: '../../etc/passwd' } }, /names no object of a store/],
    [{ backing: { path: objectPath(hex) }, size: 7 }, /has 7 bytes, its object .* 5000/],
    [{ backing: { path: objectPath(hex) }, digest: '00'.repeat(32) }, /its digest is 0000/],
  ];
  for (const [fields, message] of rows) {
    await assert.rejects(addImage(store, treeOf(fields), writeImage), {
      name: 'StoreError',
      message,
    });
  }
});

test('gc removes what no name needs, and nothing else', async (t) => {
  const { store, a, b } = await twoImages(t);
  assert.deepEqual(collectGarbage(store), {
    images: [],
    inUse: [],
    objects: 0,
    bytes: 0,
    temporaries: 0,
    kept: 5,
  });
  removeRef(store, 'a');
  const planned = collectGarbage(store, { dryRun: true });
  assert.deepEqual([planned.images, planned.objects, planned.kept], [[a.digest], 2, 3]);
  assert.equal(listImages(store).length, 2);
  assert.deepEqual(collectGarbage(store), planned);
  assert.deepEqual(
    listImages(store).map(({ name }) => name),
    [b.digest],
  );
  assert.ok(existsSync(objectOf(store, hexOf(SHARED))));
  assert.ok(!existsSync(objectOf(store, hexOf(noise(2, 3000)))));
  assert.deepEqual(await faultsOf(store), []);
});

test('gc leaves an image alone that somebody holds, and refuses new holders of one that it takes', async (t) => {
  const { store, a } = await twoImages(t);
  removeRef(store, 'a');
  const fd = openSync(objectOf(store, a.digest), 'r');
  assert.equal(holdImage(fd), true);
  assert.deepEqual(collectGarbage(store).inUse, [a.digest]);
  assert.ok(existsSync(objectOf(store, hexOf(noise(2, 3000)))));
  closeSync(fd);
  const late = openSync(objectOf(store, a.digest), 'r');
  assert.deepEqual(collectGarbage(store).images, [a.digest]);
  assert.equal(holdImage(late), false, 'it is gone');
  closeSync(late);
});

test('gc waits for nobody: an add or a foreign image makes it busy, and it makes them busy', async (t) => {
  const { store } = await twoImages(t);
  const held = holdStore(store.path);
  assert.ok(held !== undefined);
  assert.throws(() => collectGarbage(store), { kind: 'busy' });
  assert.equal(collectGarbage(store, { dryRun: true }).objects, 0);
  closeSync(held);
  const lock = store.lock(false);
  await assert.rejects(addFolder(store, tempDir(t)), { kind: 'busy' });
  assert.equal(holdStore(store.path), undefined);
  lock.release();
  await addFolder(store, tempDir(t));
});

test('a mount by the kernel pins its image until it is unmounted', {
  skip: requires({ root: true, features: ['tmpfs'] }),
}, async (t) => {
  const { store, a } = await twoImages(t);
  removeRef(store, 'a');
  const mnt = tempDir(t);
  assert.throws(() => pinImage(store.path, a.digest, mnt), /nothing is mounted/);
  // Any mount serves: what is looked for is its number.
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', mnt]);
  pinImage(store.path, a.digest, mnt);
  assert.deepEqual(collectGarbage(store).inUse, [a.digest]);
  const pins = join(store.path, '.varve/pins');
  // A pin of an earlier boot says nothing.
  const [pin] = readdirSync(pins);
  const old = JSON.parse(readFileSync(join(pins, pin as string), 'utf8'));
  writeFileSync(join(pins, 'old'), JSON.stringify({ ...old, boot: 'another' }));
  assert.equal(collectGarbage(store).inUse.length, 1);
  assert.deepEqual(readdirSync(pins), [pin]);
  execFileSync('umount', [mnt]);
  assert.deepEqual(collectGarbage(store).images, [a.digest]);
  assert.deepEqual(readdirSync(pins), []);
});

test('gc removes what killed calls left, and what it does not know it leaves', async (t) => {
  const { store } = await twoImages(t);
  const at = (name: string) => join(store.objects, name);
  writeFiles(store.objects, { '.varve-ab-64': 'x', '.tmpAbCdEf': 'x', stray: 'x' });
  const fresh = at('.tmpfresh');
  writeFileSync(fresh, 'x');
  symlinkSync('x', join(store.path, 'images/.varve-1'));
  symlinkSync('x', join(store.path, 'images/refs/os/.varve-2'));
  assert.equal(collectGarbage(store).temporaries, 2);
  assert.deepEqual([existsSync(fresh), existsSync(at('stray'))], [true, true]);
  assert.ok(!readdirSync(join(store.path, 'images')).includes('.varve-1'));
  assert.deepEqual(readdirSync(join(store.path, 'images/refs/os')), ['b']);
});

test('gc removes nothing when it cannot tell what is needed', async (t) => {
  const { store, a } = await twoImages(t);
  const before = readdirSync(store.objects, { recursive: true }).length;
  const image = objectOf(store, a.digest);
  renameSync(image, `${image}.away`);
  assert.throws(() => collectGarbage(store), { message: /its object is missing/ });
  writeFileSync(image, readFileSync(`${image}.away`).fill(0, 1024, 1100));
  assert.throws(() => collectGarbage(store), { message: /what it needs is not known/ });
  unlinkSync(join(store.path, 'images', a.digest));
  assert.throws(() => collectGarbage(store), { message: /refs\/a: leads to no image/ });
  assert.equal(readdirSync(store.objects, { recursive: true }).length, before + 1);
});

/** A split stream as composefs-rs writes it, without its content. */
function splitstream(streams: readonly string[], objects: readonly string[], old: boolean): Buffer {
  const digests = (list: readonly string[]) => Buffer.from(list.join(''), 'hex');
  const parts = [digests(streams), digests(objects)];
  const header = Buffer.alloc(32);
  const info = Buffer.alloc(80);
  const range = (to: Buffer, at: number, start: number, length: number): void => {
    to.writeBigUInt64LE(BigInt(start), at);
    to.writeBigUInt64LE(BigInt(start + length), at + 8);
  };
  header.write('SplitStream', old ? 18 : 0, 'latin1');
  header[old ? 30 : 14] = 1;
  header[old ? 31 : 15] = 12;
  range(header, old ? 0 : 16, 32, info.length);
  let at = 32 + info.length;
  parts.forEach((part, i) => {
    range(info, i * 16, at, part.length);
    at += part.length;
  });
  return Buffer.concat([header, info, ...parts]);
}

test('objects of streams of composefs-rs stay', async (t) => {
  const { store } = await twoImages(t);
  const put = (bytes: Buffer): string => {
    const hex = hexOf(bytes);
    writeFiles(store.objects, { [objectPath(hex)]: bytes });
    return hex;
  };
  const content = put(noise(7, 500));
  const deep = put(noise(8, 500));
  const layer = put(splitstream([], [deep], true));
  const config = put(splitstream([layer], [content], false));
  const unused = put(noise(9, 500));
  const link = join(store.path, 'streams/oci-config-x');
  symlinkSync(`../objects/${objectPath(config)}`, link);
  assert.deepEqual(await faultsOf(store), []);
  assert.equal(collectGarbage(store).objects, 1);
  assert.ok(!existsSync(objectOf(store, unused)));
  for (const hex of [content, deep, layer, config]) assert.ok(existsSync(objectOf(store, hex)));
  unlinkSync(objectOf(store, content));
  assert.match((await faultsOf(store)).join(), /^missing: streams\/oci-config-x: its object/);
  writeFiles(store.objects, { [objectPath(config)]: 'no stream' });
  assert.throws(() => collectGarbage(store), { message: /cannot be read as a split stream/ });
});

test('check finds every flipped byte', async (t) => {
  const { store, a, b } = await twoImages(t);
  const report = await checkStore(store, { threads: 2 });
  assert.deepEqual([report.objects, report.images, report.names], [5, 2, 2]);
  const seen: string[] = [];
  for (const digest of [hexOf(SHARED), a.digest, b.digest]) {
    const path = objectOf(store, digest);
    const good = readFileSync(path);
    for (let at = 0; at < good.length; at += Math.ceil(good.length / 23)) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] as number) ^ 1;
      writeFileSync(path, bad);
      const faults = await faultsOf(store);
      assert.ok(
        faults.some((fault) => fault.startsWith(`content: objects/${objectPath(digest)}: `)),
        `byte ${at} of ${digest}: ${faults}`,
      );
      seen.push(...faults);
    }
    for (const bytes of [good.subarray(1), Buffer.concat([good, Buffer.alloc(1)])]) {
      writeFileSync(path, bytes);
      assert.match((await faultsOf(store)).join(), /content: objects/);
    }
    writeFileSync(path, good);
  }
  assert.ok(seen.length >= 66);
  assert.deepEqual(await faultsOf(store), []);
});

test('check finds what is missing, what leads nowhere and what is none of the store', async (t) => {
  const { store, a, b } = await twoImages(t);
  const at = (path: string) => join(store.path, path);
  const shared = objectPath(hexOf(SHARED));
  const rows: readonly (readonly [string, () => void, readonly RegExp[]])[] = [
    [
      'an object of two images is gone',
      () => unlinkSync(at(`objects/${shared}`)),
      [
        /^missing: images\/.*: "\/(in\/)?shared": its object .* is not there$/,
        /^missing: images\//,
      ],
    ],
    [
      'an object is shorter',
      () => writeFileSync(at(`objects/${shared}`), SHARED.subarray(0, 100)),
      [/^content: /, /^image: .* has 5000 bytes, its object .* 100$/, /^image: /],
    ],
    [
      'an object is a link to the same bytes',
      () => {
        const away = join(dirname(store.path), 'away');
        renameSync(at(`objects/${shared}`), away);
        symlinkSync(away, at(`objects/${shared}`));
      },
      [/^content: objects\/.*ELOOP/, /^missing: /, /^missing: /],
    ],
    [
      'an image is gone',
      () => unlinkSync(objectOf(store, a.digest)),
      [new RegExp(`^missing: images/${a.digest}: its object`)],
    ],
    [
      'the link of an image is gone',
      () => unlinkSync(at(`images/${a.digest}`)),
      [/^ref: images\/refs\/a: leads to no image$/],
    ],
    [
      'the link of an image is that of another',
      () => {
        unlinkSync(at(`images/${a.digest}`));
        symlinkSync(`../objects/${objectPath(b.digest)}`, at(`images/${a.digest}`));
      },
      [/^link: images\/.* leads to the object/, /^ref: images\/refs\/a/],
    ],
    [
      'a name leads out of the store',
      () => symlinkSync('/etc/passwd', at('images/refs/evil')),
      [/^ref: images\/refs\/evil: leads to no image$/],
    ],
    [
      'strays',
      () => {
        writeFiles(at('objects'), { 'ab/short': 'x', stray: 'x' });
        writeFiles(store.path, { stray: 'x', '.hidden': 'x', 'lost+found/x': 'x' });
        writeFileSync(at('images/stray'), 'x');
        writeFileSync(at('images/refs/stray'), 'x');
      },
      [
        /^link: images\/stray: is no link to an object$/,
        /^ref: images\/refs\/stray/,
        /^stray: objects\/ab\/short/,
        /^stray: objects\/stray/,
        /^stray: stray: /,
      ],
    ],
  ];
  for (const [what, damage, wanted] of rows) {
    const copy = join(dirname(store.path), 'good');
    execFileSync('cp', ['-a', store.path, copy]);
    damage();
    const faults = (await faultsOf(store)).sort();
    assert.equal(faults.length, wanted.length, `${what}: ${faults.join('\n')}`);
    faults.forEach((fault, i) => {
      assert.match(fault, wanted[i] as RegExp, what);
    });
    rmSync(store.path, { recursive: true });
    renameSync(copy, store.path);
  }
  mkdirSync(at('objects/zz'));
  rmSync(at('objects/00'), { recursive: true, force: true });
  symlinkSync('nowhere', at('objects/00'));
  assert.match((await faultsOf(store)).join(), /^stray: objects\/00.*stray: objects\/zz/);
});

test('what images share and what they have alone', async (t) => {
  const { store, a, b } = await twoImages(t);
  writeFiles(store.objects, { [objectPath(hexOf(noise(9, 77)))]: noise(9, 77) });
  const usage = storeUsage(store);
  const of = (digest: string) => usage.images.find((image) => image.digest === digest);
  const { imageBytes } = imageUsage(store, a.digest);
  assert.equal(readFileSync(objectOf(store, a.digest)).length, imageBytes);
  assert.deepEqual(of(a.digest), {
    digest: a.digest,
    names: ['a'],
    imageBytes,
    inodes: 5,
    files: 3,
    fileBytes: 8000,
    objects: 2,
    bytes: 8000,
    sharedBytes: 5000,
    ownBytes: 3000,
  });
  const other = of(b.digest);
  assert.deepEqual(
    [other?.fileBytes, other?.bytes, other?.ownBytes, other?.sharedBytes],
    [5400, 5200, 200, 5000],
  );
  assert.deepEqual([usage.objects, usage.unusedObjects, usage.unusedBytes], [6, 1, 77]);
  unlinkSync(objectOf(store, a.digest));
  assert.equal(imageUsage(store, a.digest).problem, 'its object is missing');
});
