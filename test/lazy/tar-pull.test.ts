// Existing images: whatever form their layers have, what the kernel shows of them is what tar extracts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { ErofsImage } from '../../src/erofs/image.js';
import { resolveInImage } from '../../src/erofs/path.js';
import { imageTree } from '../../src/erofs/to-tree.js';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { evictIdle } from '../../src/lazy/load/evict.js';
import { type PullOptions, pullImage } from '../../src/lazy/pull/pull.js';
import { pushIndex } from '../../src/lazy/tar/layer-index.js';
import { Places } from '../../src/lazy/tar/places.js';
import { FileSource } from '../../src/linux/file-source.js';
import { mapMemory } from '../../src/linux/memory.js';
import { ZstdFrames } from '../../src/linux/zstd-frame.js';
import { parseReference } from '../../src/oci/reference.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { plainClient } from '../oci/plain-client.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import {
  addImage,
  estargz,
  layerFolder,
  type MadeLayer,
  mixed,
  sha256,
  tarOf,
  ZSTD_CHUNKED_2022,
  zstdChunked,
} from './tar-image.js';

mapMemory();

const options = (lazy: boolean, trustIndex = false): PullOptions => ({
  lazy,
  plainHttp: true,
  platform: 'linux/amd64',
  trustIndex,
});

const gzip = (tar: Buffer): MadeLayer => ({ bytes: gzipSync(tar) });

const zstd = (bytes: Buffer, size = bytes.length): Buffer => {
  const frames = new ZstdFrames(3);
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    parts.push(Buffer.from(frames.compress(bytes.subarray(at, at + size))));
  }
  frames.close();
  return Buffer.concat(parts);
};

/** Mounts a complete layer by the kernel and compares it with what tar has extracted. */
function compare(
  folder: string,
  layer: LayerFolder,
  tar: Buffer,
  but: readonly string[] = [],
): void {
  const extracted = join(folder, 'extracted');
  const mnt = join(folder, 'mnt');
  for (const path of [extracted, mnt]) mkdirSync(path, { recursive: true });
  assert.equal(spawnSync('tar', ['-C', extracted, '-xpf', '-'], { input: tar }).status, 0);
  const script = `set -e
    import_() { python3 -c '
import ctypes, sys, os
libc = ctypes.CDLL(None, use_errno=True)
a = [os.fsencode(x) for x in sys.argv[1:]]
sys.exit(libc.mount(a[0], a[1], b"erofs", 1, b"device=" + a[2]) and ctypes.get_errno())' "$@"; }
    import_ "$META" "$MNT" "$BLOB"
    list() { cd "$1" && find . ! -name '.wh.*' ! -path ./etc/gone -printf '%p %y %m %U %G %s %n %l %T@\\n' |
      sed 's/\\(%y d.*\\)//' | awk '$2 != "d" { print } $2 == "d" { print $1, $2, $3, $4, $5 }' | sed 's/[.]0*$//' | sort; }
    list "$MNT" > "$OUT/a"; list "$EXTRACTED" > "$OUT/b"
    diff "$OUT/b" "$OUT/a"
    diff -r --no-dereference -x '.wh.*' -x gone $BUT "$EXTRACTED" "$MNT"
    [ "$(stat -c '%F %t %T' "$MNT/etc/gone")" = 'character special file 0 0' ]
    [ "$(getfattr -n trusted.overlay.opaque --only-values "$MNT/opaque")" = y ]
    ! getfattr -d -m - "$MNT/opaque" | grep user.overlay
  `;
  const ran = spawnSync('unshare', ['-m', 'sh', '-c', script], {
    env: {
      PATH: process.env['PATH'],
      META: layer.meta,
      MNT: mnt,
      BLOB: layer.blob,
      OUT: folder,
      EXTRACTED: extracted,
      BUT: but.map((name) => `-x ${name}`).join(' '),
    },
    timeout: 60_000,
  });
  rmSync(extracted, { recursive: true });
  assert.equal(ran.status, 0, String(ran.stdout) + String(ran.stderr));
}

const needs = { root: true, features: ['erofs'] as const, packages: ['attr'] };

const ustar = ['--format=ustar'];

/** What each form is made by, and what of it is here after a lazy pull. */
const forms: Record<string, { make: (tar: Buffer) => MadeLayer; form: string; isLazy: boolean }> = {
  'tar as it is': { make: (tar) => ({ bytes: tar }), form: 'tar', isLazy: false },
  'tar+gzip': { make: gzip, form: 'tar+gzip', isLazy: false },
  'tar+zstd of several frames': {
    make: (tar) => ({ bytes: zstd(tar, 300_000) }),
    form: 'tar+zstd',
    isLazy: false,
  },
  eStargz: { make: (tar) => estargz(tar), form: 'estargz', isLazy: true },
  'eStargz whose chunks share members': {
    make: (tar) => estargz(tar, 1 << 16, 50_000),
    form: 'estargz',
    isLazy: true,
  },
  'zstd:chunked': { make: (tar) => zstdChunked(tar), form: 'zstd:chunked', isLazy: true },
  'zstd:chunked of 2022': {
    make: (tar) => zstdChunked(tar, 300_000, { prefix: ZSTD_CHUNKED_2022 }),
    form: 'zstd:chunked',
    isLazy: true,
  },
};

for (const [name, { make, form, isLazy }] of Object.entries(forms)) {
  test(`${name}: pulled lazily and then whole, emptied and filled again`, {
    skip: requires(needs),
  }, async (t) => {
    const folder = tempDir(t);
    const registry = await startFakeRegistry(t);
    // The maker of the two last forms reads ustar alone; GNU tar writes holes in pax.
    const tree = layerFolder(folder);
    if (isLazy) rmSync(join(tree, 'sparse'));
    const tar = isLazy ? tarOf(tree, ...ustar) : tarOf(tree, '--sparse', '--format=pax');
    const made = make(tar);
    const archive = form === 'estargz' ? gunzipSync(made.bytes) : tar;
    const { layers } = addImage(registry, 'some/image', [made], [archive]);
    const ref = parseReference(`${registry.host}/some/image:tag`);
    const store = join(folder, 'store');
    const client_ = plainClient(t);
    const image = await pullImage(client_, ref, store, options(true));
    assert.deepEqual(image.layers, [layers[0]?.digest]);
    const layer = LayerFolder.of(store, image.layers[0] as string);
    assert.equal(layer.read().form, form);
    assert.equal(layer.isComplete, !isLazy);
    const whole = registry.count('GET', new RegExp(`blobs/${layers[0]?.digest}`));
    assert.ok(whole > 0);

    await pullImage(client_, ref, store, options(false));
    assert.ok(layer.isComplete);
    compare(folder, layer, tar);
    const table = new ChunkTable(readFileSync(layer.table));
    const before = readFileSync(layer.blob);
    for (let i = 0; i < table.count; i++) {
      const chunk = before.subarray(table.at(i), table.at(i) + table.length(i));
      assert.equal(sha256(chunk), Buffer.from(table.digest(i)).toString('hex'));
    }
    // Equal files once.
    assert.ok(table.bytes < 700_000 + 150 * 20_000 + 600_000, `${table.bytes} bytes`);

    await evictIdle(layer, 0);
    assert.ok(!layer.isComplete);
    assert.ok(statSync(layer.blob).blocks * 512 < table.bytes / 4);
    await pullImage(client_, ref, store, options(false));
    assert.ok(readFileSync(layer.blob).equals(before));
  });
}

/** Members of a folder by name, without an end mark. */
function membersOf(folder: string, ...names: string[]): Buffer {
  const words = ['-C', folder, ...ustar, '--numeric-owner', '-c', ...names];
  const made = spawnSync('tar', words, { maxBuffer: 1 << 26 });
  assert.equal(made.status, 0, String(made.stderr));
  let end = made.stdout.length;
  while (made.stdout.subarray(end - 512, end).every((byte) => byte === 0)) end -= 512;
  return made.stdout.subarray(0, end);
}

test('what tools write: no root above the lowest layer, whiteouts below what is a file now, files of the format itself, many zeros', async (t) => {
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  const [below, now, before] = ['below', 'now', 'before'].map((name) => join(folder, name));
  mkdirSync(join(below as string, 'moved'), { recursive: true });
  chmodSync(below as string, 0o711);
  mkdirSync(now as string);
  for (const name of ['moved', '.prefetch.landmark', '.no.prefetch.landmark']) {
    writeFileSync(join(now as string, name), mixed(3000, name.length));
  }
  writeFileSync(join(now as string, 'zeros'), '');
  truncateSync(join(now as string, 'zeros'), 9 << 20);
  mkdirSync(join(before as string, 'moved'), { recursive: true });
  writeFileSync(join(before as string, 'moved/.wh.gone'), '');
  const lowest = tarOf(below as string, ...ustar);
  const own = ['.prefetch.landmark', '.no.prefetch.landmark'];
  const above = Buffer.concat([
    membersOf(now as string, 'moved', 'zeros', ...own),
    // As umoci does where a directory has become a file.
    membersOf(before as string, 'moved/.wh.gone'),
    Buffer.alloc(1024),
  ]);
  for (const [k, make] of [estargz, zstdChunked, gzip].entries()) {
    const made = [gzip(lowest), make(above)];
    const archive = make === estargz ? gunzipSync((made[1] as MadeLayer).bytes) : above;
    addImage(registry, `image-${k}`, made, [lowest, archive]);
    for (const lazy of [true, false]) {
      const store = join(folder, `store-${k}-${lazy}`);
      const ref = parseReference(`${registry.host}/image-${k}:tag`);
      const { layers } = await pullImage(plainClient(t), ref, store, options(lazy));
      const layer = LayerFolder.of(store, layers[1] as string);
      assert.equal(layer.isComplete, !lazy || make === gzip);
      const [meta, blob] = [FileSource.open(layer.meta), FileSource.open(layer.blob)];
      const image = ErofsImage.open(meta, [blob]);
      const root = imageTree(image, image.inode(image.rootNid));
      meta.close();
      blob.close();
      assert.equal(root.mode & 0o7777, 0o711);
      // Without a table of contents they are files like others.
      const files = make === gzip ? ['.no.prefetch.landmark', '.prefetch.landmark'] : [];
      assert.deepEqual([...(root.entries?.keys() ?? [])], [...files, 'moved', 'zeros']);
      assert.equal(root.entries?.get('moved')?.size, 3000);
    }
  }
});

/** A member of an archive with extended header records in front of it. */
function withRecords(tar: Buffer, ...records: string[]): Buffer {
  const body = records.map((record) => {
    let length = record.length + 3;
    while (`${length} ${record}\n`.length !== length) length++;
    return `${length} ${record}\n`;
  });
  const text = body.join('');
  const head = Buffer.from(tar.subarray(0, 512));
  head.write(text.length.toString(8).padStart(11, '0'), 124);
  head.write('x', 156);
  head.fill(' ', 148, 156);
  const sum = head.reduce((all, byte) => all + byte, 0);
  head.write(`${sum.toString(8).padStart(6, '0')}\0`, 148);
  return Buffer.concat([head, Buffer.from(text), Buffer.alloc(-text.length & 511), tar]);
}

test('holes anywhere: data of a sparse file begins and ends within sectors', async (t) => {
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  const text = mixed(300_000, 5);
  const pieces = [
    [10, 5],
    [70_001, 3],
    [200_003, 299_992],
  ] as const;
  writeFileSync(join(folder, 'file'), text);
  const map = `GNU.sparse.map=${pieces.join()}`;
  const tar = withRecords(membersOf(folder, 'file'), 'GNU.sparse.size=600000', map);
  addImage(registry, 'image', [gzip(tar)], [tar]);
  const ref = parseReference(`${registry.host}/image:tag`);
  const { layers } = await pullImage(plainClient(t), ref, join(folder, 'store'), options(true));
  const layer = LayerFolder.of(join(folder, 'store'), layers[0] as string);
  const [meta, blob] = [FileSource.open(layer.meta), FileSource.open(layer.blob)];
  const image = ErofsImage.open(meta, [blob]);
  const inode = resolveInImage(image, 'file', false);
  assert.ok(inode);
  const found = Buffer.alloc(600_000, 1);
  assert.equal(image.read(inode, found, 0), found.length);
  meta.close();
  blob.close();
  const expected = Buffer.alloc(600_000);
  let from = 0;
  for (const [at, length] of pieces) from += text.copy(expected, at, from, from + length);
  assert.ok(found.equals(expected));
});

test('one zstd frame: the layer is complete, and is never emptied', async (t) => {
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  mkdirSync(join(folder, 'tree'));
  // More than may lie between two checkpoints.
  writeFileSync(join(folder, 'tree/zeros'), Buffer.alloc(70 << 20));
  writeFileSync(join(folder, 'tree/file'), mixed(100_000, 1));
  const tar = tarOf(join(folder, 'tree'));
  addImage(registry, 'image', [{ bytes: zstd(tar) }], [tar]);
  const ref = parseReference(`${registry.host}/image:tag`);
  const image = await pullImage(plainClient(t), ref, join(folder, 'store'), options(true));
  const layer = LayerFolder.of(join(folder, 'store'), image.layers[0] as string);
  assert.ok(layer.isComplete && !existsSync(layer.checkpoints));
  const before = readFileSync(layer.blob);
  try {
    await evictIdle(layer, 0);
  } catch {
    // Said, or nothing done: either way it stays.
  }
  assert.ok(layer.isComplete && readFileSync(layer.blob).equals(before));
});

test('an index beside the image: others mount lazily by it, if they trust it', async (t) => {
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  const tree = layerFolder(folder);
  const [below, above] = [tarOf(tree, ...ustar), tarOf(join(tree, 'etc'), ...ustar)];
  const made = [gzipSync(below), above].map((bytes) => ({ bytes }));
  const { digest, size, layers } = addImage(registry, 'image', made, [below, above]);
  const ref = parseReference(`${registry.host}/image:tag`);
  const [first, second] = [join(folder, 'first'), join(folder, 'second')];
  const one = plainClient(t);
  const { layers: ids } = await pullImage(one, ref, first, options(true));
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const pushed = await pushIndex(one, ref, { mediaType, digest, size }, ids, first);
  assert.ok(pushed?.startsWith('sha256:'));

  const whole = () => registry.count('GET', new RegExp(`blobs/${layers[0]?.digest}`));
  const before = whole();
  await pullImage(one, ref, second, options(true, true));
  assert.equal(whole(), before);
  for (const id of ids) {
    const [had, has] = [LayerFolder.of(first, id), LayerFolder.of(second, id)];
    assert.ok(had.isComplete && !has.isComplete);
    assert.deepEqual(has.read().form, had.read().form);
    for (const file of ['meta', 'table'] as const) {
      assert.deepEqual(readFileSync(has[file]), readFileSync(had[file]));
    }
  }
  // Who does not trust it does not get what it has made, either.
  await assert.rejects(pullImage(one, ref, second, options(true)), { kind: 'policy' });
  await assert.rejects(pullImage(one, ref, second, options(false)), { kind: 'policy' });
  await pullImage(one, ref, second, options(false, true));
  for (const id of ids) {
    const [had, has] = [LayerFolder.of(first, id), LayerFolder.of(second, id)];
    assert.ok(has.isComplete && readFileSync(has.blob).equals(readFileSync(had.blob)));
  }

  // Unless it is trusted nobody asks for it.
  const third = join(folder, 'third');
  await pullImage(one, ref, third, options(true));
  assert.ok(ids.every((id) => LayerFolder.of(third, id).isComplete));
  // A trusted one that is wrong is refused, and nothing is left.
  for (const [key, { bytes }] of registry.manifests) {
    if (!key.endsWith(pushed as string)) continue;
    const parts = JSON.parse(bytes.toString()).layers as { mediaType: string; digest: string }[];
    const points = parts.find((part) => part.mediaType.includes('checkpoints'))?.digest as string;
    const damaged = Buffer.from(registry.blobs.get(points) as Buffer);
    damaged.writeUInt32LE(99, 8);
    registry.blobs.set(points, damaged);
  }
  const fourth = join(folder, 'fourth');
  await assert.rejects(pullImage(one, ref, fourth, options(true, true)), { kind: 'wrong' });
  assert.ok(!existsSync(LayerFolder.of(fourth, ids[0] as string).path));
});

test('what is no layer, or not the one that the image says, is refused', async (t) => {
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  mkdirSync(join(folder, 'tree'));
  writeFileSync(join(folder, 'tree/file'), mixed(300_000, 1));
  const tar = tarOf(join(folder, 'tree'));
  const packed = gzipSync(tar);
  const rows: [string, Buffer, Buffer, RegExp][] = [
    ['another archive', packed, Buffer.from('x'), /the image says sha256/],
    ['no archive', gzipSync(mixed(4096, 3)), mixed(4096, 3), /tar header|no tar/],
    ['cut off', packed.subarray(0, packed.length - 400), tar, /too early/],
    ['bzip2', Buffer.from('BZh91AY&SY'), tar, /compressed by bzip2/],
  ];
  for (const [name, bytes, diff, message] of rows) {
    addImage(registry, name.replace(' ', '-'), [{ bytes }], [diff]);
    const ref = parseReference(`${registry.host}/${name.replace(' ', '-')}:tag`);
    const store = join(folder, name);
    await assert.rejects(pullImage(plainClient(t), ref, store, options(true)), {
      message,
      kind: 'wrong',
    });
    assert.ok(!existsSync(join(store, 'images')));
  }
});

test('a table of contents that claims more than there are blocks is not used, and numbers never begin again', async (t) => {
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  mkdirSync(join(folder, 'tree'));
  writeFileSync(join(folder, 'tree/file'), mixed(9000, 1));
  const tar = tarOf(join(folder, 'tree'), ...ustar);
  const hole = (name: string, size: number) => ({ name, type: 'reg', size, chunkType: 'zeros' });
  const rows = [
    ['few', [hole('a', 2 ** 40), hole('b', 2 ** 40)], 'zstd:chunked'],
    ['many', ['a', 'b', 'c', 'd'].map((name) => hole(name, 2 ** 42)), 'tar+zstd'],
    ['large', [hole('a', 2 ** 44)], 'tar+zstd'],
  ] as const;
  for (const [name, more, form] of rows) {
    const made = zstdChunked(tar, undefined, { more });
    const { layers } = addImage(registry, name, [made], [tar]);
    const ref = parseReference(`${registry.host}/${name}:tag`);
    const store = join(folder, name);
    await pullImage(plainClient(t), ref, store, options(true));
    assert.equal(LayerFolder.of(store, layers[0]?.digest as string).read().form, form, name);
  }
  const places = new Places();
  assert.equal(places.claim(2 ** 32 - 3), 0);
  assert.equal(places.claim(1), 2 ** 32 - 3);
  assert.throws(() => places.claim(2), RangeError);
  assert.equal(places.claim(1), 2 ** 32 - 2);
});

test('a damaged table of contents: refused, or the layer is read whole', async (t) => {
  // Invariant: whatever a byte of the layer becomes behind its manifest's back, no content comes that its digests do not cover.
  const folder = tempDir(t);
  const registry = await startFakeRegistry(t);
  mkdirSync(join(folder, 'tree'));
  for (let i = 0; i < 9; i++) writeFileSync(join(folder, `tree/file-${i}`), mixed(9000, i));
  const tar = tarOf(join(folder, 'tree'), ...ustar);
  for (const [k, make] of [estargz, zstdChunked].entries()) {
    const { bytes, annotations } = make(tar);
    const archive = k === 0 ? gunzipSync(bytes) : tar;
    const name = `image-${k}`;
    const { layers } = addImage(registry, name, [{ bytes, annotations }], [archive]);
    const ref = parseReference(`${registry.host}/${name}:tag`);
    for (let n = 0; n < 12; n++) {
      const damaged = Buffer.from(bytes);
      const at = damaged.length - 1 - n * 17;
      damaged[at] = (damaged[at] as number) ^ (1 << (n % 8));
      registry.blobs.set(layers[0]?.digest as string, damaged);
      const store = join(folder, `store-${k}-${n}`);
      const pulled = await pullImage(plainClient(t), ref, store, options(true)).then(
        ({ layers: [id] }) => readFileSync(LayerFolder.of(store, id as string).table),
        (error: Error & { kind?: string }) => {
          assert.equal(error.kind, 'wrong', String(error));
          return undefined;
        },
      );
      if (pulled === undefined) continue;
      const table = new ChunkTable(pulled);
      const known = Array.from({ length: 9 }, (_, i) => sha256(mixed(9000, i)));
      for (let i = 0; i < table.count; i++) {
        assert.ok(known.includes(Buffer.from(table.digest(i)).toString('hex')));
      }
    }
  }
});
