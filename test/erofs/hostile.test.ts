// Images that no tool writes: at the limits of the format, and made to crash, hang or fill the memory of a reader.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ByteSource, MemorySource } from '../../src/bytes/source.js';
import { checkImage } from '../../src/erofs/check.js';
import { ErofsError } from '../../src/erofs/errors.js';
import {
  ChunkFormat,
  ClusterType,
  ErofsDeviceSlot,
  ErofsInodeChunkIndex,
  ErofsXattrEntry,
  ErofsXattrIbodyHeader,
  FeatureIncompat,
  Layout,
  ZAdvise,
  ZErofsExtent,
  ZErofsLclusterIndex,
  ZErofsMapHeader,
} from '../../src/erofs/format.js';
import { ErofsImage, type Inode } from '../../src/erofs/image.js';
import { BLOCK, Handmade, S_IFDIR } from './handmade.js';
import { imageVectors } from './vectors.js';

const open = (bytes: Uint8Array): ErofsImage => ErofsImage.open(new MemorySource(bytes));

/** The one file of an image. */
function file(image: ErofsImage): Inode {
  const nid = image.lookup(image.inode(image.rootNid), Buffer.from('file'));
  assert.notEqual(nid, undefined);
  return image.inode(nid as number);
}

/** An image with one file, and that file. */
function withFile(
  layout: number,
  fields: Parameters<Handmade['inode']>[1],
  rest?: Uint8Array,
  superblock: Parameters<Handmade['finish']>[1] = {},
): [ErofsImage, Inode] {
  const made = new Handmade();
  const nid = made.inode(layout, fields, rest);
  const image = open(made.finish([{ name: 'file', nid, type: 1 }], superblock));
  return [image, file(image)];
}

const header = (fields: Parameters<typeof ZErofsMapHeader.bytes>[0]): Uint8Array =>
  ZErofsMapHeader.bytes(fields);

test('features that are not known are refused, with those that are', () => {
  assert.throws(() => open(new Handmade().finish([], { feature_incompat: 0x8000_0221 })), {
    name: 'ErofsError',
    unsupported: true,
    message:
      'erofs_super_block.feature_incompat at byte 1104: 0x80000221 has features newer than this ' +
      'reader (bit 9, bit 31); it knows LZ4_0PADDING, FRAGMENTS, DEDUPE',
  });
});

test('features that are compatible are read over', () => {
  open(new Handmade().finish([], { feature_compat: 0xffff_ff00 }));
});

test('an image that is none, empty or cut off', () => {
  for (const length of [0, 1024, 1100, 1151]) {
    assert.throws(() => open(new Uint8Array(length)), { name: 'ErofsError', field: 'size' });
  }
  assert.throws(() => open(new Uint8Array(5000)), /this is not an EROFS image/);
  for (const [name, bytes] of imageVectors()) {
    for (let length = 1200; length < bytes.length; length += 777) {
      const problems = (): unknown => [...checkImage(open(bytes.subarray(0, length)))].length;
      try {
        assert.notEqual(problems(), 0, `${name} cut off at ${length}`);
      } catch (error) {
        if (!(error instanceof ErofsError)) throw error;
      }
    }
  }
});

test('the checksum is checked', () => {
  const bytes = imageVectors().get('plain') as Uint8Array;
  bytes[1024 + 64] = 0x41;
  const [first] = checkImage(open(bytes));
  assert.equal(first?.message.startsWith('erofs_super_block.checksum at byte 1028'), true);
});

test('a petabyte of zeros: read anywhere, checked at once', () => {
  const size = 2 ** 50;
  const hole = { i_u: 0xffffffff, i_nb: 0xffff, i_size: BigInt(size) };
  const [image, inode] = withFile(Layout.FLAT_PLAIN, hole);
  const out = new Uint8Array(1000).fill(1);
  assert.equal(image.read(inode, out, size - 500), 500);
  assert.deepEqual(out.subarray(0, 500), new Uint8Array(500));
  assert.deepEqual([...image.extents(inode)], []);
  assert.deepEqual(
    [...checkImage(image)].filter(({ field }) => field === 'i_size'),
    [],
  );
});

test('a fragment of a petabyte in a packed inode of zeros is checked at its ends', () => {
  const made = new Handmade();
  const hole = { i_u: 0xffffffff, i_nb: 0xffff, i_size: 2n ** 52n };
  const packed = made.inode(Layout.FLAT_PLAIN, hole);
  const rest = header({ h_clusterbits: 0x80 });
  const nid = made.inode(Layout.COMPRESSED_FULL, { i_size: 2n ** 50n }, rest);
  const fields = { feature_incompat: FeatureIncompat.FRAGMENTS, packed_nid: BigInt(packed) };
  const image = open(made.finish([{ name: 'file', nid, type: 1 }], fields));
  assert.equal(image.read(file(image), new Uint8Array(100), 2 ** 49), 100);
  const wrong = [...checkImage(image)].filter(({ path }) => path === '/file');
  assert.deepEqual(wrong, []);
});

test('data outside the image is named', () => {
  const [image, inode] = withFile(Layout.FLAT_PLAIN, { i_u: 9000, i_size: 100n });
  assert.throws(() => image.read(inode, new Uint8Array(10), 0), {
    name: 'ErofsError',
    structure: 'erofs_inode',
    field: 'i_u.startblk',
    at: 1536,
  });
});

test('a chain of a million steps back to a head ends', () => {
  const count = 1_000_000;
  const indexes = Buffer.alloc(count * 8);
  for (let i = 1; i < count; i++) {
    indexes.writeUInt16LE(ClusterType.NONHEAD, i * 8);
    indexes.writeUInt16LE(1, i * 8 + 4);
    indexes.writeUInt16LE(1, i * 8 + 6);
  }
  const rest = Buffer.concat([header({}), Buffer.alloc(8), indexes]);
  const size = BigInt(count * BLOCK);
  const [image, inode] = withFile(Layout.COMPRESSED_FULL, { i_size: size }, rest);
  const out = new Uint8Array(100);
  assert.throws(() => image.read(inode, out, count * BLOCK - 100), /to its head/);
  assert.throws(() => image.read(inode, out, 0), /does not end/);
});

test('extents of one byte, each in a pcluster of its own, are given up', () => {
  const count = 100_000;
  const records = Array.from({ length: count }, (_, i) =>
    ZErofsExtent.bytes({ plen: 0x100000, pstart_lo: 1024 + i, lstart_lo: i }).subarray(0, 16),
  );
  // Records of 16 bytes, which lie at multiples of 16.
  const advise = ZAdvise.EXTENTS | (2 << ZAdvise.EXTRECSZ_BIT);
  const rest = Buffer.concat([
    header({ h_fragmentoff: count, h_advise: advise }),
    Buffer.alloc(8),
    ...records,
  ]);
  const [image, inode] = withFile(Layout.COMPRESSED_FULL, { i_size: BigInt(count) }, rest, {
    feature_incompat: FeatureIncompat.LZ4_0PADDING,
  });
  const started = performance.now();
  assert.throws(() => image.read(inode, new Uint8Array(count), 0), /is spread over/);
  assert.ok(performance.now() - started < 5000);
});

test('an lcluster index may not lead before the file', () => {
  const index = ZErofsLclusterIndex.bytes({ di_advise: ClusterType.NONHEAD, di_u: 5 });
  const rest = Buffer.concat([header({}), Buffer.alloc(8), index]);
  const [image, inode] = withFile(Layout.COMPRESSED_FULL, { i_size: 100n }, rest);
  assert.throws(() => image.read(inode, new Uint8Array(1), 0), {
    structure: 'z_erofs_lcluster_index',
    message: /a distance of 5 from lcluster 0/,
  });
});

test('a directory in itself is a problem, not a loop', () => {
  const made = new Handmade();
  const dir = made.directory([
    { name: '.', nid: 1, type: 2 },
    { name: '..', nid: 1, type: 2 },
  ]);
  const names = ['a', 'b', 'c'].map((name) => ({ name, nid: dir, type: 2 }));
  const image = open(made.finish(names));
  const messages = [...checkImage(image)].map(({ message }) => message).join('\n');
  assert.match(messages, /several names, or a loop/);
  assert.match(messages, /"\." is nid 1/);
});

test('names that would leave a folder are never handed out', () => {
  for (const name of ['../../etc', 'a/b', 'a\0b', '/']) {
    const image = open(
      new Handmade().finish([
        { name, nid: 1, type: 1 },
        { name: 'z', nid: 1, type: 1 },
      ]),
    );
    const list = (): void => image.list(image.inode(image.rootNid), () => {});
    assert.throws(list, /erofs_dirent.nameoff .*a slash or NUL/);
    const problems = [...checkImage(image)].map(({ message }) => message);
    assert.match(problems.join('\n'), /a slash or NUL/);
  }
});

test('nothing is read before the image', () => {
  const image = open(new Handmade().finish([], { meta_blkaddr: 0xffff_fff0 }));
  assert.throws(() => image.inode(5), { name: 'ErofsError', at: 5 * 32 - 16 * 512 });
  assert.throws(() => image.inode(-1), { name: 'ErofsError' });
});

test('many directories of the same blocks end the check', () => {
  const made = new Handmade();
  const names = Array.from({ length: 2000 }, (_, i) => ({
    name: `d${String(i).padStart(6, '0')}`,
    nid: 0,
    type: 2,
  }));
  const size = 60_000;
  const startblk = 3;
  const dirs = names.map((name) => {
    const fields = { i_mode: S_IFDIR, i_size: BigInt(size), i_u: startblk };
    return { ...name, nid: made.inode(Layout.FLAT_PLAIN, fields) };
  });
  const problems = [...checkImage(open(made.finish(dirs)))];
  assert.match(problems.at(-1)?.message ?? '', /the check ends here|nlink|nameoff/);
});

test('xattrs of 65535 bytes, longer names, and a name that is too long', () => {
  const value = Buffer.from(Array.from({ length: 65535 }, (_, i) => i * 7));
  const name = Buffer.alloc(250, 'n');
  const entry = Buffer.concat([
    ErofsXattrEntry.bytes({ e_name_len: name.length, e_name_index: 1, e_value_size: value.length }),
    name,
    value,
    Buffer.alloc(3),
  ]);
  const rest = Buffer.concat([ErofsXattrIbodyHeader.bytes({}), entry]);
  const icount = Math.floor((rest.length - 12) / 4) + 1;
  const [image, inode] = withFile(Layout.FLAT_PLAIN, { i_xattr_icount: icount }, rest);
  const full = `user.${name}`;
  assert.deepEqual(image.listxattr(inode), [full]);
  assert.deepEqual(Buffer.from(image.getxattr(inode, full) as Uint8Array), value);
  assert.equal(image.getxattr(inode, `${full}x`), undefined);
  assert.equal(image.getxattr(inode, `user.${'x'.repeat(70_000)}`), undefined);
  assert.equal(image.getxattr(inode, 'nonsense'), undefined);
});

test('data of an extra device: given, appended, or missing', () => {
  const made = new Handmade();
  const far = 4000;
  const slot = made.put(ErofsDeviceSlot.bytes({ blocks_lo: 8, uniaddr_lo: far }), 128);
  const index = ErofsInodeChunkIndex.bytes({ device_id: 1, startblk_lo: 2 });
  const chunk = { i_u: ChunkFormat.INDEXES | 3, i_size: 1000n };
  const chunked = made.inode(Layout.CHUNK_BASED, chunk, index);
  const unified = made.inode(Layout.FLAT_PLAIN, { i_u: far + 2, i_size: 1000n });
  const wrong = ErofsInodeChunkIndex.bytes({ device_id: 2 | 0x8000 });
  const outside = made.inode(Layout.FLAT_PLAIN, { i_u: far + 7, i_size: 1000n });
  const third = made.inode(Layout.CHUNK_BASED, chunk, wrong);
  const bytes = made.finish([], {
    feature_incompat: FeatureIncompat.DEVICE_TABLE | FeatureIncompat.CHUNKED_FILE,
    extra_devices: 1,
    devt_slotoff: slot / 128,
  });
  const device = Buffer.from(Array.from({ length: 8 * BLOCK }, (_, i) => (i * 31) >> 4));
  const appended = Buffer.concat([bytes, Buffer.alloc(far * BLOCK - bytes.length), device]);
  const expected = device.subarray(2 * BLOCK, 2 * BLOCK + 1000);
  const out = Buffer.alloc(1000);
  const given = ErofsImage.open(new MemorySource(bytes), [new MemorySource(device)]);
  for (const image of [given, open(appended)]) {
    for (const nid of [chunked, unified]) {
      out.fill(0);
      assert.equal(image.read(image.inode(nid), out, 0), 1000);
      assert.deepEqual(out, expected);
    }
  }
  const missing = open(bytes);
  assert.throws(
    () => missing.read(missing.inode(chunked), out, 0),
    /device 1, which was not given/,
  );
  assert.throws(
    () => missing.read(missing.inode(unified), out, 0),
    /device 1, which was not given/,
  );
  assert.throws(() => given.read(given.inode(outside), out, 0), /outside device 1 of 4096 bytes/);
  // The mask of device_id has one bit here: device 2 is device 0.
  assert.equal(given.read(given.inode(third), out, 0), 1000);
});

/** Counts what is read. */
class Counting implements ByteSource {
  readonly size: number;
  bytes = 0;
  readonly #source: ByteSource;

  constructor(bytes: Uint8Array) {
    this.#source = new MemorySource(bytes);
    this.size = bytes.length;
  }

  read(at: number, out: Uint8Array): void {
    this.bytes += out.length;
    this.#source.read(at, out);
  }
}

test('100,000 names: found in place, listed in order, and from any of them on', () => {
  const made = new Handmade();
  const nid = made.inode(Layout.FLAT_PLAIN, {});
  const names = Array.from({ length: 100_000 }, (_, i) => ({
    name: `${String(i).padStart(6, '0')}\xff${'l'.repeat((i * 13) % 249)}`,
    nid,
    type: 1,
  }));
  const source = new Counting(made.finish(names));
  const image = ErofsImage.open(source);
  assert.ok(source.bytes < 4096, `opening reads ${source.bytes} bytes`);
  const root = image.inode(image.rootNid);
  const wanted = Buffer.from((names[77_777] as { name: string }).name, 'latin1');
  assert.equal(image.lookup(root, wanted), nid);
  assert.ok(source.bytes < 512 * 1024, `a lookup reads ${source.bytes} bytes`);
  for (let i = 0; i < names.length; i += 97) {
    const { name } = names[i] as { name: string };
    assert.equal(image.lookup(root, Buffer.from(`x${name}`, 'latin1'), 1), nid);
    assert.equal(image.lookup(root, Buffer.from(`${name}!`, 'latin1')), undefined);
    assert.equal(image.lookup(root, Buffer.from(name.slice(0, -1), 'latin1')), undefined);
  }
  assert.equal(image.lookup(root, Buffer.alloc(0)), undefined);
  assert.equal(image.lookup(root, Buffer.alloc(256, '0')), undefined);

  const listed: string[] = [];
  let from = 0;
  for (let before = -1; before !== listed.length; ) {
    before = listed.length;
    let room = 1000;
    image.list(
      root,
      (name, _nid, _type, next) => {
        listed.push(Buffer.from(name).toString('latin1'));
        from = next;
        return --room > 0;
      },
      from,
    );
  }
  assert.deepEqual(listed, ['.', '..', ...names.map(({ name }) => name)]);
});
