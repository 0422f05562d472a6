// A small composefs image with its store and the tree that its mount must show; used by the tests of stack/ and cli/.
// The store has the layout of composefs-rs: objects/, images/DIGEST, images/refs/NAME.
// Made by our own writer, whose images are compared with mkcomposefs's in test/erofs/.

import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { writeComposefs } from '../../src/erofs/composefs.js';
import { S } from '../../src/linux/constants.js';
import { objectPath } from '../../src/store/objects.js';
import { verityDigest } from '../../src/store/verity.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';

/** Seconds; what every file of the image and of the tree has. */
export const MTIME = 1_700_000_000;

/** Content of which a test knows what to expect. */
export const CONTENT = {
  small: 'in the image',
  text: 'a line of an object\n'.repeat(500),
  large: Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) & 0xff)),
};

export interface SampleStore {
  readonly store: string;
  /** The file itself, outside of the store. */
  readonly image: string;
  readonly digest: string;
  /** Its name in the store. */
  readonly name: string;
  /** A directory with what a mount of the image must show. */
  readonly tree: string;
  /** The object with CONTENT.text. */
  readonly textObject: string;
}

/** Makes `store`, `img` and `tree` below a folder. Everybody may read them. */
export function sampleStore(folder: string): SampleStore {
  const store = join(folder, 'store');
  const tree = join(folder, 'tree');
  for (const path of ['objects', 'images/refs/group']) {
    mkdirSync(join(store, path), { recursive: true });
  }
  const objects = join(store, 'objects');
  const root = directory();
  const bin = directory();
  add(root, 'bin', bin);
  add(root, 'small', makeNode(S.IFREG | 0o644, { ...inline(CONTENT.small), ...TIME }));
  const text = object(objects, Buffer.from(CONTENT.text), 0o644);
  add(root, 'text', text);
  add(root, 'hard', text);
  add(root, 'large', object(objects, CONTENT.large, 0o600));
  add(root, 'empty', makeNode(S.IFREG | 0o644, TIME));
  add(root, 'link', makeNode(S.IFLNK | 0o777, { target: 'text', size: 4, ...TIME }));
  add(bin, 'tool', object(objects, readFileSync('/bin/true'), 0o755));

  const pieces: Buffer[] = [];
  writeComposefs(root, {}, (bytes) => void pieces.push(Buffer.from(bytes)));
  const bytes = Buffer.concat(pieces);
  const image = join(folder, 'img');
  writeFileSync(image, bytes, { mode: 0o644 });
  const digest = verityDigest(bytes).toString('hex');
  putObject(objects, bytes);
  symlinkSync(`../objects/${objectPath(digest)}`, join(store, 'images', digest));
  symlinkSync(`../${digest}`, join(store, 'images/refs/sample'));
  symlinkSync(`../../${digest}`, join(store, 'images/refs/group/sample'));
  makeTree(tree);
  const textObject = join(
    objects,
    objectPath(verityDigest(Buffer.from(CONTENT.text)).toString('hex')),
  );
  return { store, image, digest, name: 'sample', tree, textObject };
}

const TIME = { mtime: MTIME, mtimeNsec: 0 } as const;

const directory = (): TreeNode => makeNode(S.IFDIR | 0o755, TIME);

const inline = (text: string): Pick<TreeNode, 'size' | 'content'> => ({
  size: text.length,
  content: memoryContent(Buffer.from(text)),
});

function object(objects: string, bytes: Buffer, mode: number): TreeNode {
  const digest = putObject(objects, bytes);
  return makeNode(S.IFREG | mode, {
    size: bytes.length,
    backing: { path: objectPath(digest) },
    digest,
    ...TIME,
  });
}

function putObject(objects: string, bytes: Buffer): string {
  const digest = verityDigest(bytes).toString('hex');
  const path = join(objects, objectPath(digest));
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, bytes, { mode: 0o644 });
  return digest;
}

function makeTree(tree: string): void {
  const at = (path: string): string => join(tree, path);
  mkdirSync(at('bin'), { recursive: true });
  writeFileSync(at('small'), CONTENT.small);
  writeFileSync(at('text'), CONTENT.text);
  linkSync(at('text'), at('hard'));
  writeFileSync(at('large'), CONTENT.large);
  writeFileSync(at('empty'), '');
  symlinkSync('text', at('link'));
  copyFileSync('/bin/true', at('bin/tool'));
  chmodSync(at('bin/tool'), 0o755);
  for (const name of ['small', 'text', 'large', 'empty', 'bin/tool']) {
    utimesSync(at(name), MTIME, MTIME);
  }
}
