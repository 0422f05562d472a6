// Pinned images of every codec, index form and place of metadata read as the tree they were made of.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemorySource } from '../../src/bytes/source.js';
import { checkImage } from '../../src/erofs/check.js';
import { Layout } from '../../src/erofs/format.js';
import { ErofsImage, type Inode } from '../../src/erofs/image.js';
import { listImage } from './listing.js';
import { imageVectors, treeLines, withoutPlaces } from './vectors.js';

/** What each image is there for: found among the extents of its files. */
const shows: Record<string, RegExp> = {
  plain: /^inline undefined/m,
  chunks: new RegExp(`^device undefined ${Layout.CHUNK_BASED}`, 'm'),
  legacy: new RegExp(`^device lz4 ${Layout.COMPRESSED_FULL}`, 'm'),
  lz4: new RegExp(`^device lz4 ${Layout.COMPRESSED_COMPACT}`, 'm'),
  lzma: /^inline lzma/m,
  deflate: /^packed/m,
  zstd: /^packed/m,
  'all-fragments': /^packed/m,
  extents: /^device zstd 1 records of 4/m,
  'extents-dedupe': /^device lz4 1 records of (8|16)/m,
  metabox: /metabox/,
};

test('the images are those that are described here', () => {
  assert.deepEqual([...imageVectors().keys()].sort(), Object.keys(shows).sort());
});

for (const [name, bytes] of imageVectors()) {
  test(`image ${name}`, () => {
    const image = ErofsImage.open(new MemorySource(bytes));
    // mkfs.erofs 1.9.3 gives the root an xattr of its own.
    const lines = listImage(image).filter((line) => !line.startsWith(' '));
    assert.deepEqual(lines.map(withoutPlaces), treeLines());
    assert.deepEqual(listImage(image, { chunk: 333 }).slice(1), lines);
    assert.deepEqual([...checkImage(image)], []);
    assert.match(places(image), shows[name] as RegExp);
  });
}

test('xattrs are found by name: behind the filter, with long prefixes, shared and not', () => {
  const filters = new Set<boolean>();
  for (const [name, bytes] of imageVectors()) {
    const image = ErofsImage.open(new MemorySource(bytes));
    filters.add(image.superblock.xattrFilter);
    image.list(image.inode(image.rootNid), (_name, nid) => {
      const inode = image.inode(nid);
      const xattrs = image.xattrs(inode);
      assert.deepEqual(
        image.listxattr(inode),
        xattrs.map((xattr) => xattr.name),
      );
      for (const xattr of xattrs) {
        assert.deepEqual(image.getxattr(inode, xattr.name), xattr.value, `${name} ${xattr.name}`);
        for (const other of [`${xattr.name}x`, xattr.name.slice(0, -1), 'user.', 'nothing']) {
          assert.equal(image.getxattr(inode, other), undefined, `${name} ${other}`);
        }
      }
    });
  }
  assert.deepEqual(filters, new Set([true, false]));
});

/** A line for each extent: where, algorithm, layout of the file. */
function places(image: ErofsImage): string {
  const lines: string[] = [];
  const add = (inode: Inode): void => {
    for (const { where, algorithm } of image.extents(inode)) {
      const records = inode.z?.recordSize ? ` records of ${inode.z.recordSize}` : '';
      const metabox = inode.metabox ? ' metabox' : '';
      lines.push(`${where} ${algorithm} ${inode.layout}${records}${metabox}`);
    }
  };
  image.list(image.inode(image.rootNid), (_name, nid) => {
    const inode = image.inode(nid);
    if ((inode.mode & 0o170000) === 0o100000) add(inode);
  });
  return lines.join('\n');
}
