import assert from 'node:assert/strict';
import { lstatSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Statx, statAt, statBuffer } from '../../src/linux/files.js';
import { mapMemory, putBytes, scratch, u8, u16, u32 } from '../../src/linux/memory.js';
import {
  ATTR_SIZE,
  Attr,
  attrFromStat,
  ENTRY_SIZE,
  Entry,
  KSTATFS_SIZE,
} from '../../src/vfs/attr.js';
import { tempDir } from '../support/temp.js';

mapMemory();
const path = scratch + 0x10000;
const out = scratch + 0x12000;

const word = (field: number) => u32[(out + field) >>> 2];
const long = (field: number) => BigInt(word(field)) + (BigInt(word(field + 4)) << 32n);

test('records have the sizes of include/uapi/linux/fuse.h', () => {
  assert.equal(ATTR_SIZE, 88);
  assert.equal(ENTRY_SIZE, 128);
  assert.equal(KSTATFS_SIZE, 80);
  assert.equal(Entry.attr + ATTR_SIZE, ENTRY_SIZE);
});

test('the attributes of a file, a directory and a device are what lstat(2) says', (t) => {
  const folder = tempDir(t);
  const file = join(folder, 'f');
  writeFileSync(file, 'x'.repeat(5000));
  for (const name of [file, folder, '/dev/null', '/proc/self/exe']) {
    putBytes(path, name);
    const expected = lstatSync(name, { bigint: true });
    assert.equal(statAt(-100, path), Number(expected.mode));
    u8.fill(0xaa, out, out + ATTR_SIZE);
    attrFromStat(out);
    assert.equal(long(Attr.ino), expected.ino);
    assert.equal(long(Attr.size), expected.size);
    assert.equal(long(Attr.blocks), expected.blocks);
    for (const time of ['atime', 'mtime', 'ctime'] as const) {
      const ns = long(Attr[time]) * 1_000_000_000n + BigInt(word(Attr[`${time}nsec`]));
      assert.equal(ns, expected[`${time}Ns`], `${time} of ${name}`);
    }
    assert.equal(BigInt(word(Attr.mode)), expected.mode);
    assert.equal(BigInt(word(Attr.nlink)), expected.nlink);
    assert.equal(BigInt(word(Attr.uid)), expected.uid);
    assert.equal(BigInt(word(Attr.gid)), expected.gid);
    assert.equal(BigInt(word(Attr.rdev)), expected.rdev);
    assert.equal(BigInt(word(Attr.blksize)), expected.blksize);
    assert.equal(word(Attr.flags), 0);
  }
});

test('every field of struct statx lands in its place, extremes included', () => {
  const u32s = fc.oneof(fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff), fc.nat());
  fc.assert(
    fc.property(fc.array(u32s, { minLength: 64, maxLength: 64 }), (words) => {
      const s = statBuffer();
      for (let i = 0; i < 64; i++) u32[(s >>> 2) + i] = words[i];
      const major = words[Statx.rdev_major >>> 2] & 0xfff;
      const minor = words[Statx.rdev_minor >>> 2] & 0xfffff;
      u32[(s + Statx.rdev_major) >>> 2] = major;
      u32[(s + Statx.rdev_minor) >>> 2] = minor;
      attrFromStat(out);
      const pairs = ['ino', 'size', 'blocks', 'atime', 'mtime', 'ctime'] as const;
      for (const field of pairs) {
        assert.equal(word(Attr[field]), u32[(s + Statx[field]) >>> 2]);
        assert.equal(word(Attr[field] + 4), u32[(s + Statx[field] + 4) >>> 2]);
      }
      for (const time of ['atime', 'mtime', 'ctime'] as const) {
        assert.equal(word(Attr[`${time}nsec`]), u32[(s + Statx[time] + 8) >>> 2]);
      }
      for (const field of ['nlink', 'uid', 'gid', 'blksize'] as const) {
        assert.equal(word(Attr[field]), u32[(s + Statx[field]) >>> 2]);
      }
      assert.equal(word(Attr.mode), u16[(s + Statx.mode) >>> 1]);
      // new_decode_dev() of include/linux/kdev_t.h.
      const rdev = word(Attr.rdev);
      assert.equal((rdev & 0xfff00) >>> 8, major);
      assert.equal((rdev & 0xff) | ((rdev >>> 12) & 0xfff00), minor);
    }),
  );
});
