// fs-verity digests: those that fsverity(1) 1.5 gives, in pieces of any length, of holes, and of files.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  type VerityAlgorithm,
  VerityHasher,
  verityDigest,
  verityDigestOfFd,
} from '../../src/store/verity.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const BLOCK = 4096;
const ALGORITHMS = ['sha256', 'sha512'] as const;

/** Bytes that differ from block to block. */
function pattern(size: number): Buffer {
  while (patterned.length < size) {
    const longer = Buffer.alloc(Math.max(size, 1 << 20));
    for (let i = 0; i < longer.length; i++) {
      longer[i] = (i * 7 + (i >>> 8) * 13 + (i >>> 16) * 31) & 255;
    }
    patterned = longer;
  }
  return Buffer.from(patterned.subarray(0, size));
}

let patterned = Buffer.alloc(0);

const make = { pattern, zeros: (size: number): Buffer => Buffer.alloc(size) };

/** Content, bytes, the first 16 digits of the SHA-256 and of the SHA-512 digest. */
const DIGESTS: readonly (readonly [keyof typeof make, number, string, string])[] = [
  ['pattern', 0, '3d248ca542a24fc6', 'ccf9e5aea1c2a64e'],
  ['pattern', 1, 'b803429503d95915', '9fcf5172b085b1c8'],
  ['pattern', 100, '35756600d50f1d1f', 'fd7b53c74504d2c7'],
  ['pattern', 4095, 'a1af7177d2a116e8', 'b76c2b75c8bb6152'],
  ['pattern', 4096, 'dc1f8bf5ee9d486c', 'cf39db87a59be086'],
  ['pattern', 4097, '77966aa2f22bdae9', '474c079380a1e7d1'],
  ['pattern', 8192, 'd61903f02d762c05', 'b976d2658652ba4c'],
  ['pattern', 262143, 'd19c4456d4cfae6e', '50482dc0019c7e37'],
  ['pattern', 262144, 'b27a3f79f10025c5', '006c2a82d2ecd28a'],
  ['pattern', 262145, 'dc35ee460cacaa1b', 'b9539dd4950859bb'],
  ['pattern', 524287, 'd261581644c15a50', '1bc8e56e0b0fafa8'],
  ['pattern', 524288, '84f3d9bcba90403c', 'd6a34f4551822abb'],
  ['pattern', 524289, '5eff16340cb1b28c', 'c917b2c71a5c1698'],
  ['pattern', 33554432, '89454ed9b23b1baf', '1fed06def7d9b956'],
  ['pattern', 33558523, '1a808fe51430b22b', 'ada9afba5f69d6c0'],
  ['pattern', 67108864, 'cb37ce067fc6967f', 'b0c83530128a071b'],
  ['pattern', 67112960, '14e731e9cf741d87', 'cdadeeec7446eeeb'],
  ['zeros', 0, '3d248ca542a24fc6', 'ccf9e5aea1c2a64e'],
  ['zeros', 1, 'b803429503d95915', '9fcf5172b085b1c8'],
  ['zeros', 100, 'b0fb44a8078cc2d7', '3119d8a427a80dd1'],
  ['zeros', 4095, '5372beb83c78537c', 'e2397c3e051f7ab0'],
  ['zeros', 4096, 'babc284ee4ffe7f4', '928922686c4caf32'],
  ['zeros', 4097, '093756e4ea968332', '4339f5da3788e60f'],
  ['zeros', 8192, 'be54121da3877f88', 'bb792b976d8b5cd0'],
  ['zeros', 262143, '50b5360448073991', 'e2d33e92eee6a1d0'],
  ['zeros', 262144, '27fad54e0cf60e1d', '0fab0d1193794470'],
  ['zeros', 262145, '164d358d7b02095f', '66570da2a4960575'],
  ['zeros', 524287, '5b687cddd72baf4a', '49809d318c4ccd05'],
  ['zeros', 524288, '2d15bd7832895de8', '80e3a9dbfb94da75'],
  ['zeros', 524289, 'e4143a5705610b7a', '7d26d3e731675b1e'],
  ['zeros', 33554432, 'd9db28b602cf238b', 'aeb5054966e084d3'],
  ['zeros', 33558523, 'f344fe050efb24af', '321dbdc0ab5a80af'],
  ['zeros', 67108864, '382b8844ad09fb5f', '90c6bb14c17e95c1'],
  ['zeros', 67112960, 'f214c03cf33a41ae', 'f402752f30cd4f2c'],
];

const SPARSE_SIZE = 1024 * 1024 * 1024 + 5000;

test('digests are those of fsverity(1)', () => {
  for (const [kind, size, sha256, sha512] of DIGESTS) {
    const bytes = make[kind](size);
    const what = `${kind} of ${size} bytes`;
    const short = verityDigest(bytes);
    assert.equal(short.length, 32);
    assert.equal(short.toString('hex').slice(0, 16), sha256, what);
    const long = verityDigest(bytes, 'sha512');
    assert.equal(long.length, 64);
    assert.equal(long.toString('hex').slice(0, 16), sha512, what);
  }
});

test('the pieces in which bytes come make no difference', () => {
  const bytes = pattern(130 * BLOCK + 77);
  bytes.fill(0, 3 * BLOCK, 9 * BLOCK);
  for (const algorithm of ALGORITHMS) {
    const whole = verityDigest(bytes, algorithm);
    const hasher = new VerityHasher(algorithm);
    for (const step of [1, 13, 4095, 4096, 4097, 3 * BLOCK, 129 * BLOCK]) {
      hasher.reset();
      for (let at = 0; at < bytes.length; at += step) hasher.update(bytes.subarray(at, at + step));
      assert.deepEqual(hasher.digest(), whole, `${algorithm}, ${step} bytes at a time`);
    }
  }
});

test('runs of zeros are the same as their bytes, wherever they begin', () => {
  for (const algorithm of ALGORITHMS) {
    const hasher = new VerityHasher(algorithm);
    for (const before of [0, 1, BLOCK, 63 * BLOCK, 64 * BLOCK, 127 * BLOCK + 9, 128 * BLOCK]) {
      for (const zeros of [0, 1, BLOCK, 64 * BLOCK, 128 * BLOCK + 1, 4097 * BLOCK]) {
        for (const after of [0, 10, 2 * BLOCK]) {
          const bytes = Buffer.concat([pattern(before), Buffer.alloc(zeros), pattern(after)]);
          hasher.reset().update(pattern(before)).updateZeros(zeros).update(pattern(after));
          assert.deepEqual(
            hasher.digest(),
            verityDigest(bytes, algorithm),
            `${algorithm}: ${before} bytes, ${zeros} zeros, ${after} bytes`,
          );
        }
      }
    }
  }
});

test('every byte counts', () => {
  const bytes = pattern(129 * BLOCK + 1);
  const seen = new Set([verityDigest(bytes).toString('hex')]);
  let tried = 1;
  for (let at = 0; at < bytes.length; at += 1021) {
    bytes[at] = (bytes[at] as number) ^ 0x10;
    seen.add(verityDigest(bytes).toString('hex'));
    bytes[at] = (bytes[at] as number) ^ 0x10;
    tried++;
  }
  for (const size of [bytes.length - 1, bytes.length - BLOCK]) {
    seen.add(verityDigest(bytes.subarray(0, size)).toString('hex'));
    tried++;
  }
  assert.equal(seen.size, tried);
});

test('a file is read whole, its holes as zeros without being read', (t) => {
  const path = join(tempDir(t), 'file');
  const bytes = pattern(300 * BLOCK + 9);
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r+');
  t.after(() => closeSync(fd));
  for (const algorithm of ALGORITHMS) {
    assert.deepEqual(verityDigestOfFd(fd, algorithm), verityDigest(bytes, algorithm));
  }
  ftruncateSync(fd, SPARSE_SIZE);
  writeSync(fd, pattern(5000), 0, 5000, SPARSE_SIZE - 5000);
  assert.equal(
    verityDigestOfFd(fd).toString('hex'),
    'c35d32047c3ecfa10e751de446f1b7798948f3f525f73abd0d6b4cac24b32c0d',
  );
  assert.equal(
    verityDigestOfFd(fd, 'sha512').toString('hex').slice(0, 32),
    '847963b39fe87f24b7e02aa0e6a31419',
  );
  // Reading a terabyte would take an hour.
  ftruncateSync(fd, 2 ** 40);
  assert.notDeepEqual(verityDigestOfFd(fd), verityDigest(bytes));
});

test('a file of any size has the digest that fsverity(1) computes', {
  skip: requires({ packages: ['fsverity'] }),
}, (t) => {
  const path = join(tempDir(t), 'file');
  const sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1];
  for (const perBlock of [64, 128]) {
    for (const blocks of [perBlock, perBlock * 2, perBlock * 65]) {
      sizes.push(blocks * BLOCK - 1, blocks * BLOCK, blocks * BLOCK + 1);
    }
  }
  for (const size of sizes) {
    const bytes = pattern(size);
    writeFileSync(path, bytes);
    for (const algorithm of ALGORITHMS) {
      const ours = verityDigest(bytes, algorithm).toString('hex');
      assert.equal(ours, fsverityDigest(path, algorithm), `${algorithm} of ${size} bytes`);
    }
  }
});

function fsverityDigest(path: string, algorithm: VerityAlgorithm): string {
  const args = ['digest', '--compact', `--hash-alg=${algorithm}`, '--block-size=4096', path];
  return execFileSync('fsverity', args, { encoding: 'utf8' }).trim();
}
