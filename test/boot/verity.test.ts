// dm-verity trees: the bytes of veritysetup, and every kind of damage found.
// Oracle: cryptsetup's `veritysetup format` and `verify`, with the same salt and UUID.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { appendVerity, checkVerity, verityEnd } from '../../src/boot/auth/verity.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const BLOCK = 4096;
const UUID = '11111111-2222-4333-8444-555555555555';

/** Bytes that do not repeat, the same in every run. */
function bytesOf(size: number): Buffer {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(size));
}

function veritysetup(...args: string[]): { status: number | null; text: string } {
  const result = spawnSync('veritysetup', args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });
  return { status: result.status, text: result.stdout + result.stderr };
}

const oracle = { skip: requires({ packages: ['cryptsetup-bin'] }) };

// Blocks of data: around the borders where a level is full, and where a batch of reading ends.
for (const blocks of [2, 127, 128, 129, 1023, 1025, 128 * 128 + 1]) {
  for (const salt of ['0011223344556677', '', 'ab'.repeat(256)]) {
    // The large one once.
    if (blocks > 2000 && salt.length !== 16) continue;
    test(
      `${blocks} blocks, ${salt.length / 2} bytes of salt: as veritysetup`,
      oracle,
      async (t) => {
        const dir = tempDir(t);
        const [ours, theirs] = [join(dir, 'ours'), join(dir, 'theirs')];
        const data = bytesOf(blocks * BLOCK);
        writeFileSync(ours, data);
        writeFileSync(theirs, data);
        const made = await appendVerity(ours, { salt, uuid: UUID });
        const formatted = veritysetup(
          'format',
          `--hash-offset=${blocks * BLOCK}`,
          `--salt=${salt === '' ? '-' : salt}`,
          `--uuid=${UUID}`,
          theirs,
          theirs,
        );
        assert.equal(formatted.status, 0, formatted.text);
        assert.match(formatted.text, new RegExp(`Root hash:\\s+${made.roothash}\\n`));
        assert.ok(readFileSync(ours).equals(readFileSync(theirs)), 'the bytes differ');
        assert.equal(made.dataBlocks, blocks);
        assert.equal(made.hashOffset, blocks * BLOCK);
        assert.equal(statSync(ours).size, verityEnd(made));
        await checkVerity(theirs, made);
      },
    );
  }
}

test('the same image gives the same bytes, with salt and UUID of its own', oracle, async (t) => {
  const dir = tempDir(t);
  const files = ['a', 'b', 'c'].map((name) => join(dir, name)) as [string, string, string];
  const data = bytesOf(300 * BLOCK + 77);
  writeFileSync(files[0], data);
  writeFileSync(files[1], data);
  data[3] = (data[3] as number) ^ 1;
  writeFileSync(files[2], data);
  const [a, b, c] = await Promise.all(files.map((file) => appendVerity(file)));
  assert.deepEqual(a, b);
  assert.ok(readFileSync(files[0]).equals(readFileSync(files[1])));
  assert.notEqual(a?.salt, c?.salt);
  assert.notEqual(a?.roothash, c?.roothash);
  assert.equal(a?.dataBlocks, 301, 'the last block is filled up');
  const verified = veritysetup(
    'verify',
    `--hash-offset=${a?.hashOffset}`,
    files[0],
    files[0],
    a?.roothash ?? '',
  );
  assert.equal(verified.status, 0, verified.text);
});

test('one block of data: its hash is the root hash', async (t) => {
  const file = join(tempDir(t), 'one');
  writeFileSync(file, 'x');
  const made = await appendVerity(file, { salt: '00' });
  const block = Buffer.alloc(BLOCK);
  block.write('x');
  const wanted = createHash('sha256').update(Buffer.of(0)).update(block).digest('hex');
  assert.equal(made.roothash, wanted);
  await checkVerity(file, made);
  writeFileSync(file, 'y', { flag: 'r+' });
  await assert.rejects(checkVerity(file, made), /data block 0 \(byte 0\) does not match/);
});

test('a flipped bit anywhere is found and named, except in the UUID', async (t) => {
  const file = join(tempDir(t), 'image');
  const blocks = 130;
  writeFileSync(file, bytesOf(blocks * BLOCK));
  const made = await appendVerity(file);
  const good = readFileSync(file);
  const hash = made.hashOffset;
  const rows: [at: number, message: RegExp][] = [
    [0, /data block 0 \(byte 0\)/],
    [129 * BLOCK + 4095, /data block 129 \(byte 528384\)/],
    [hash + 4 * BLOCK - 1, new RegExp(`block at byte ${hash + 3 * BLOCK} .* hash above it`)],
    [hash + 2 * BLOCK, new RegExp(`block at byte ${hash + 2 * BLOCK} .* hash above it`)],
    [hash + BLOCK + 100, new RegExp(`block at byte ${hash + BLOCK} .* root hash`)],
  ];
  // Every byte of the superblock's block but the UUID, in steps through its unused end.
  for (let at = 0; at < BLOCK; at += at < 352 ? 1 : 97) {
    if (at >= 16 && at < 32) continue;
    rows.push([hash + at, new RegExp(`superblock of the hash tree: byte ${hash + at} `)]);
  }
  for (const [at, message] of rows) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 0x10;
    writeFileSync(file, bad);
    await assert.rejects(checkVerity(file, made), message);
  }
  writeFileSync(file, good);
  await checkVerity(file, made);
});

test('a wrong root hash, another salt, a file cut off, and what cannot be', async (t) => {
  const file = join(tempDir(t), 'image');
  writeFileSync(file, bytesOf(200 * BLOCK));
  const made = await appendVerity(file);
  const rejected = (config: Partial<typeof made>, message: RegExp) =>
    assert.rejects(checkVerity(file, { ...made, ...config }), message);
  await rejected({ roothash: 'a'.repeat(64) }, /does not match the root hash/);
  await rejected({ salt: 'ab'.repeat(32) }, /superblock of the hash tree/);
  await rejected({ dataBlocks: 201 }, /cannot be that of 201 blocks/);
  await rejected({ dataBlocks: 199 }, /superblock of the hash tree/);
  await rejected({ hashOffset: made.hashOffset + BLOCK }, /is cut off/);
  truncateSync(file, verityEnd(made) - 1);
  await rejected({}, /is cut off/);
  await assert.rejects(checkVerity(`${file}-none`, made), /no such file or directory/);
});

test('what cannot be appended leaves the file as it was', async (t) => {
  const file = join(tempDir(t), 'image');
  writeFileSync(file, '');
  await assert.rejects(appendVerity(file), /is empty/);
  writeFileSync(file, 'abc');
  await assert.rejects(appendVerity(file, { salt: 'abc' }), /salt abc: must be up to 256 bytes/);
  await assert.rejects(appendVerity(file, { uuid: '7' }), /uuid 7: must be like/);
  assert.equal(readFileSync(file, 'utf8'), 'abc');
});
