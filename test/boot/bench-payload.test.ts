// Payloads of a bench, and the kernel that it boots: what is taken, what is refused, the same bytes each time.
// A kernel here is a made one: an ELF file with or without the note of PVH, packed as bzImage has it.

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { bootableKernel } from '../../src/boot/bench/kernel.js';
import { givenPayload, madePayload } from '../../src/boot/bench/payload.js';
import { checkVariants, USUAL_VARIANTS, VARIANTS } from '../../src/boot/bench/variants.js';
import { writeCpio } from '../../src/tree/cpio-write.js';
import { find, type TreeNode, walk } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const busybox = { skip: requires({ packages: ['busybox-static'] }) };

/** Bytes that do not repeat, the same in every run. */
function bytesOf(size: number): Buffer {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(size));
}

function archive(root: TreeNode): Buffer {
  const pieces: Buffer[] = [];
  writeCpio(root, (piece) => pieces.push(Buffer.from(piece)));
  return Buffer.concat(pieces);
}

test(
  'a made payload has the size asked for, of files in order, and is the same each time',
  busybox,
  (t) => {
    const folder = tempDir(t);
    for (const name of ['b', 'a', 'c/d']) {
      mkdirSync(join(folder, name), { recursive: true });
      for (let i = 0; i < 10; i++) writeFileSync(join(folder, name, `${i}`), bytesOf(200_000 + i));
    }
    const made = () => madePayload(6_000_000, [folder, '/nowhere']);
    const payload = made();
    assert.ok(Math.abs(payload.bytes - 6_000_000) <= 210_000, String(payload.bytes));
    assert.equal(payload.name, '6 MB');
    const names: string[] = [];
    walk(payload.root, (path, node) => {
      if (node.content !== undefined && path.startsWith(folder))
        names.push(path.slice(folder.length));
    });
    assert.equal(names.length, payload.files - 2);
    assert.ok(
      names.includes('/a/0') && names.includes('/b/0') && !names.includes('/c/d/9'),
      `${names}`,
    );
    assert.ok(find(payload.root, 'init') !== undefined);
    assert.ok(archive(payload.root).equals(archive(made().root)));
    assert.throws(() => madePayload(60_000_000, [folder]), {
      kind: 'layer',
      message: /have \d+ bytes too few: ask for a smaller one$/,
    });
  },
);

test('a given initramfs keeps its files, its init is put aside', busybox, (t) => {
  const folder = tempDir(t);
  mkdirSync(join(folder, 'files'));
  writeFileSync(join(folder, 'files/one'), bytesOf(3_000_000));
  const first = madePayload(5_000_000, [join(folder, 'files')]);
  const path = join(folder, 'in.img');
  writeFileSync(path, gzipSync(archive(first.root), { level: 1 }));
  const given = givenPayload(path);
  assert.equal(given.name, 'in.img');
  assert.equal(given.bytes, first.bytes);
  assert.ok(archive(given.root).equals(archive(first.root)));
  given.close();
});

test('variants are known by name', () => {
  checkVariants(VARIANTS);
  checkVariants(USUAL_VARIANTS);
  for (const name of ['bzip2', 'toString', '']) {
    assert.throws(() => checkVariants(['lz4', name]), {
      kind: 'option',
      message: /is not known: name some of/,
    });
  }
  assert.throws(() => checkVariants([]), { kind: 'option' });
});

/** An ELF file of 64 bits with one segment of notes, and something behind it. */
function elf(noteType: number): Buffer {
  const bytes = Buffer.alloc(64 + 56 + 20);
  bytes.write('\x7fELF\x02\x01\x01', 'latin1');
  bytes.writeBigUInt64LE(64n, 0x20);
  bytes.writeUInt16LE(56, 0x36);
  bytes.writeUInt16LE(1, 0x38);
  bytes.writeUInt32LE(4, 64);
  bytes.writeBigUInt64LE(120n, 64 + 8);
  bytes.writeBigUInt64LE(20n, 64 + 32);
  bytes.writeUInt32LE(4, 120);
  bytes.writeUInt32LE(4, 124);
  bytes.writeUInt32LE(noteType, 128);
  bytes.write('Xen\0', 132, 'latin1');
  return Buffer.concat([bytes, bytesOf(100_000)]);
}

function bzImage(payload: Buffer, version = 0x020f): Buffer {
  const head = Buffer.alloc(1024 + 512);
  head.writeUInt8(1, 0x1f1);
  head.write('HdrS', 0x202, 'latin1');
  head.writeUInt16LE(version, 0x206);
  head.writeUInt32LE(512, 0x248);
  head.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([head, payload, Buffer.from('behind it')]);
}

const PVH = 18;

test('a bzImage is unpacked where QEMU can enter what is in it', (t) => {
  const folder = tempDir(t);
  const kernel = join(folder, 'vmlinuz');
  const unpacked = join(folder, 'vmlinux');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(elf(PVH).length);
  writeFileSync(kernel, bzImage(Buffer.concat([gzipSync(elf(PVH)), length])));
  assert.equal(bootableKernel(kernel, folder), unpacked);
  assert.ok(readFileSync(unpacked).equals(elf(PVH)));
  // What is unpacked already is taken as it is.
  assert.equal(bootableKernel(unpacked, folder), unpacked);
  const others = [
    bzImage(gzipSync(elf(PVH + 1))),
    bzImage(gzipSync(Buffer.from('no ELF'))),
    bzImage(bytesOf(1000)),
    bzImage(gzipSync(elf(PVH)), 0x0207),
  ];
  for (const bytes of others) {
    writeFileSync(kernel, bytes);
    assert.equal(bootableKernel(kernel, folder), kernel);
  }
});

test('what is no kernel is refused by name', (t) => {
  const folder = tempDir(t);
  const kernel = join(folder, 'kernel');
  assert.throws(() => bootableKernel(kernel, folder), {
    kind: 'layer',
    message: `kernel ${kernel}: no such file or directory: name one by --kernel`,
  });
  writeFileSync(kernel, elf(PVH + 1));
  assert.throws(() => bootableKernel(kernel, folder), { message: /has no PVH entry/ });
  for (const bytes of [Buffer.alloc(0), bytesOf(5000)]) {
    writeFileSync(kernel, bytes);
    assert.throws(() => bootableKernel(kernel, folder), {
      message: /is no bzImage and no vmlinux/,
    });
  }
});
