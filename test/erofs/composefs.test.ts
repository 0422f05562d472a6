// composefs images: byte for byte those of mkcomposefs 1.0.8, whose digests stand here; fsck.erofs and the kernel take them.
// Where mkcomposefs is on PATH, random dumps are compared with it too: `npm test -- erofs/composefs --rounds 1000 --seed 5`.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MemorySource } from '../../src/bytes/source.js';
import { type ComposefsVersion, writeComposefs } from '../../src/erofs/composefs.js';
import { composefsTree } from '../../src/erofs/composefs-tree.js';
import { ErofsImage } from '../../src/erofs/image.js';
import { S } from '../../src/linux/constants.js';
import { verityDigest } from '../../src/store/verity.js';
import { readDump } from '../../src/tree/dump-read.js';
import { dumpText } from '../../src/tree/dump-write.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { COMPOSEFS_SAMPLES, sampleDump } from './composefs-samples.js';
import { listImage, listMount } from './listing.js';
import { randomDump } from './random-dump.js';

type Sample = keyof typeof COMPOSEFS_SAMPLES;
const samples = Object.keys(COMPOSEFS_SAMPLES) as Sample[];

/** fs-verity digests of the images that `mkcomposefs --from-file` makes, format versions 0 and 1. */
const PINNED: Readonly<Record<Sample, readonly [string, string]>> = {
  kinds: [
    'e85755eef2a31546b3b5e6c50e00eb2a9458197cf230be61a064fc878fdca7db',
    'e0a64542d03580176e8b2c9a2489fcaa9e36afdc573b678adbbbef7216747511',
  ],
  links: [
    '5cbb4799d255ed9ffde4dd1a9e23bd1314d30fae5e175653de29533d5bcace71',
    '73a49d2117140b3b4a3963d54ef34c022f1e0a2e24ff4023fb489c07ca711e0e',
  ],
  xattrs: [
    'afc0c77ed6d6607f0075319787e2709220514a74478dc7462d5b655613065bbe',
    '5cb4359686d965a6efbe658ad27d4f9fadf65e07f30606cfd896f56ee1b37cfc',
  ],
  odd: [
    '99801410da5b025fc77d483ba878a63750500931888382edf23a89da5d22b069',
    '13bf4b43baa713415d5c93bdd55ae01931b1e490f667f2ebfcff1200acd058bb',
  ],
  whiteouts: [
    '1e237395ded97a50f3a161990dba6f381bb36ce71a392ed4d4efe1f537509589',
    'f1e17cb336c33c2c41cf3f3b476776f35cb77099f267c0c8fd79ba14b0ebec27',
  ],
  sizes: [
    '7d8809ae0af3b0240e7bd1ecac9252cceacf39b54e3c0e129a85decdb0b3c1dd',
    'e64f7ff65fd4ecea671b400fbed073125e530fea7a637e4d98480ec676c12144',
  ],
  large: [
    'd5c1843073fac49049bce0347cfaecda39c5c2763b8eea44eb184cec12d15e96',
    'c75c9203f6c8f1a282465f4a7426255e83fabbbd6a866a8c8fd438d5869bab10',
  ],
};

/** Those with a whiteout, for which mkcomposefs takes version 1 unasked. */
const WITH_WHITEOUT: readonly Sample[] = ['links', 'whiteouts'];

function imageOf(tree: TreeNode, version?: ComposefsVersion): Buffer {
  const pieces: Buffer[] = [];
  const report = writeComposefs(tree, { version }, (bytes) => pieces.push(Buffer.from(bytes)));
  const image = Buffer.concat(pieces);
  assert.equal(image.length, report.bytes);
  return image;
}

const open = (image: Uint8Array): ErofsImage => ErofsImage.open(new MemorySource(image));
const digestOf = (image: Uint8Array): string => verityDigest(image).toString('hex');

let folder = '';
before(() => {
  folder = makeTempDir();
});
after(() => removeTempDir(folder));

for (const name of samples) {
  test(`${name}: the image has the digest that mkcomposefs gives`, () => {
    const tree = readDump(sampleDump(name));
    const images = [imageOf(tree, 0), imageOf(tree, 1)] as const;
    assert.deepEqual(images.map(digestOf), PINNED[name]);
    const chosen = WITH_WHITEOUT.includes(name) ? 1 : 0;
    assert.ok(imageOf(tree).equals(images[chosen]));
    images.forEach((image, version) => {
      assert.equal(open(image).superblock.composefsVersion, version);
    });
  });

  test(`${name}: the tree in the image makes the same image again`, () => {
    // The large one takes its time.
    for (const version of name === 'large' ? ([0] as const) : ([0, 1] as const)) {
      const image = imageOf(readDump(sampleDump(name)), version);
      const dump = dumpText(composefsTree(open(image)));
      const again = imageOf(readDump(dump), version);
      assert.equal(digestOf(again), digestOf(image));
      assert.ok(dumpText(composefsTree(open(again))).equals(dump));
    }
  });
}

test('fsck.erofs accepts the images', { skip: requires({ packages: ['erofs-utils'] }) }, () => {
  for (const name of samples) {
    const path = join(folder, `${name}.erofs`);
    writeFileSync(path, imageOf(readDump(sampleDump(name))));
    execFileSync('fsck.erofs', [path], { stdio: 'pipe' });
  }
});

test('the kernel shows what this reader shows', {
  skip: requires({ root: true, features: ['loop', 'erofs'] }),
}, () => {
  for (const name of ['links', 'xattrs', 'whiteouts'] as const) {
    const path = join(folder, `${name}.erofs`);
    const image = imageOf(readDump(sampleDump(name)));
    writeFileSync(path, image);
    assert.deepEqual(listImage(open(image)), listMount(path, undefined));
  }
});

test('content that does not fit beside a large inode lies in as many blocks as it needs', () => {
  const bytes = Buffer.from('0123456789'.repeat(450));
  const root = makeNode(S.IFDIR | 0o755);
  for (const size of [4096, 4500]) {
    const xattrs = new Map([['user.wide', Buffer.alloc(3900, size)]]);
    const content = memoryContent(bytes.subarray(0, size));
    add(root, `of ${size}`, makeNode(S.IFREG | 0o644, { size, content, xattrs }));
  }
  const image = open(imageOf(root));
  for (const size of [4096, 4500]) {
    const nid = image.lookup(image.inode(image.rootNid), Buffer.from(`of ${size}`));
    assert.ok(nid !== undefined);
    const out = Buffer.alloc(size);
    assert.equal(image.read(image.inode(nid), out, 0), size);
    assert.ok(out.equals(bytes.subarray(0, size)));
  }
});

test('what an image cannot hold is refused with the path', () => {
  const refused = (change: (file: TreeNode) => void, message: RegExp): void => {
    const root = makeNode(S.IFDIR | 0o755);
    const dir = makeNode(S.IFDIR | 0o755);
    const file = makeNode(S.IFREG | 0o644, { size: 100 });
    add(root, 'dir', dir);
    add(dir, 'file', file);
    change(file);
    assert.throws(() => imageOf(root), message);
  };
  refused((file) => {
    file.digest = 'ab'.repeat(64);
  }, /"\/dir\/file": its digest is none of SHA-256/);
  refused((file) => {
    file.xattrs = new Map([['user.a', Buffer.alloc(65536)]]);
  }, /"\/dir\/file": xattr "user\.a": its value has 65536 bytes/);
  refused((file) => {
    file.mode = S.IFLNK | 0o777;
  }, /"\/dir\/file": a symlink's target has 0 bytes/);
  assert.throws(() => imageOf(makeNode(S.IFREG | 0o644)), /must be a directory/);
});

/** SHA-256 over the digests of the images that mkcomposefs makes of the random dumps 1 to 60. */
const RANDOM = 'c05ab8b5d79104346ea0df212c4087f13e81eb0c0e54aeed9f70e0431186a6c5';

test('random dumps: the images are those of mkcomposefs', () => {
  const all = createHash('sha256');
  for (let seed = 1; seed <= 60; seed++) {
    all.update(digestOf(imageOf(readDump(randomDump(seed)))));
  }
  assert.equal(all.digest('hex'), RANDOM);
  if (spawnSync('mkcomposefs').error === undefined) compareWithProgram();
});

function compareWithProgram(): void {
  const dump = join(folder, 'random.dump');
  const made = join(folder, 'random.img');
  const first = campaign('seed', 1);
  for (let seed = first; seed < first + campaign('rounds', 100); seed++) {
    const text = randomDump(seed);
    writeFileSync(dump, text);
    const given = spawnSync('mkcomposefs', ['--from-file', dump, made], { encoding: 'utf8' });
    // What it reckons that xattrs take goes below zero where it replaces a mark of its own.
    if (given.stderr.includes('cannot write file')) continue;
    assert.equal(given.status, 0, `seed ${seed}: ${given.stderr}`);
    assert.ok(imageOf(readDump(text)).equals(readFileSync(made)), `seed ${seed}`);
  }
}
