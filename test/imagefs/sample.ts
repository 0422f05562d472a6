// A composefs image with one of everything, and the objects that it names; as a dump, so that a failure can be read.
// Used by the tests of imagefs/. What is wrong with some of its files is in their names, below /objects.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeComposefs } from '../../src/erofs/composefs.js';
import { objectPath } from '../../src/store/objects.js';
import { verityDigest } from '../../src/store/verity.js';
import { readDump } from '../../src/tree/dump-read.js';

/** Content of an object, which follows from its size. */
export function contentOf(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + size) & 255;
  return bytes;
}

/** fs-verity digest of contentOf(size). */
export const digestOf = (size: number): string => verityDigest(contentOf(size)).toString('hex');

/** Above what is hashed while the reader waits. */
export const BIG = 2_000_000;
export const SMALL = 10_000;

const marks = [
  'user.plain=v',
  'user.overlay.own=v',
  'user.overlay.overlay.deep=v',
  'trusted.plain=t',
  'trusted.overlay.own=t',
  'trusted.overlay.overlay.deep=t',
].join(' ');

/** What mode 0755 says, and an entry for uid 5. */
const acl = [
  [1, 7, -1],
  [2, 4, 5],
  [4, 5, -1],
  [16, 5, -1],
  [32, 5, -1],
]
  .map(([tag, permissions, id]) => {
    const entry = Buffer.alloc(8);
    entry.writeUInt16LE(tag as number, 0);
    entry.writeUInt16LE(permissions as number, 2);
    entry.writeInt32LE(id as number, 4);
    return [...entry].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  })
  .reduce((text, entry) => text + entry, '\\x02\\x00\\x00\\x00');

/** An external file as it should be. */
const external = (path: string, size: number, more = ''): string =>
  `${path} ${size} 100644 1 0 0 0 1010.0 ${objectPath(digestOf(size))} - ${digestOf(size)}${more}`;

export const MANY = 300;

const lines = (): string[] => [
  '/ 4096 40755 8 0 0 0 1000.500000000 - - - user.root=1',
  external('/big', BIG).replace(' 1010.0 ', ' 1600000000.123456789 '),
  '/deny 0 100000 1 0 0 0 1.0 - - -',
  `/dir 4096 40751 3 3 4 0 -5.250000000 - - - ${marks} system.posix_acl_default=${acl}`,
  external('/dir/file', SMALL, ` ${marks} system.posix_acl_access=${acl}`)
    .replace(' 100644 1 0 0 ', ' 104755 3 1 2 ')
    .replace('user.plain', 'user.filler=x user.plain'),
  '/dir/linked 0 @100000 3 0 0 0 0.0 /dir/file - -',
  '/dir/sub 4096 40755 2 0 0 0 1002.0 - - -',
  '/dir/sub/again 0 @100000 3 0 0 0 0.0 /dir/file - -',
  '/dir/sub/name\\x20with\\xff\\x0a 5 100644 1 0 0 0 1003.0 - hello -',
  '/links 4096 40755 2 0 0 0 1004.0 - - -',
  '/links/chr 0 20640 1 0 6 259 1005.0 - - - trusted.overlay.own=t security.x=s user.plain=v',
  '/links/fifo 0 10600 1 7 8 0 1006.0 - - -',
  '/links/symlink 9 120777 1 9 9 0 1007.0 ../dir/no - - user.plain=v trusted.overlay.own=t user.overlay.own=v',
  '/many 4096 40755 2 0 0 0 1008.0 - - -',
  ...Array.from({ length: MANY }, (_, i) => {
    const size = i % 7;
    const name = `/many/entry-${String(i).padStart(3, '0')}`;
    return `${name} ${size} 100644 1 ${i} ${i} 0 ${1100 + i}.${i} - ${'x'.repeat(size) || '-'} -`;
  }),
  '/objects 4096 40755 2 0 0 0 1009.0 - - -',
  `/objects/by-redirect 3000 100644 1 0 0 0 1010.0 ${objectPath(digestOf(3000))} - -`,
  external('/objects/missing', 4001),
  '/objects/nowhere 3000 100644 1 0 0 0 1010.0 - - -',
  '/objects/outside 3000 100644 1 0 0 0 1010.0 ../secret - -',
  `/objects/renamed 5000 100644 1 0 0 0 1010.0 other/place - ${digestOf(5000)}`,
  external('/objects/same-as-big', BIG),
  external('/objects/shorter', 5000).replace(' 5000 ', ' 4000 '),
  '/white 4096 40755 2 0 0 0 1011.0 - - -',
  '/white/out 0 20000 1 0 0 0 1012.0 - - -',
  '/white/shown 3 100644 1 0 0 0 1012.0 - abc -',
];

/** Sizes of the objects that there are. */
const SIZES = [BIG, SMALL, 3000, 5000];

export interface Sample {
  readonly image: string;
  readonly objects: string;
}

/** The bytes of an image of a dump. */
export function imageOf(dump: string, version: 0 | 1): Buffer {
  const pieces: Buffer[] = [];
  writeComposefs(readDump(Buffer.from(dump)), { version }, (bytes) => {
    pieces.push(Buffer.from(bytes));
  });
  return Buffer.concat(pieces);
}

/** Writes the image and the objects to `folder`. */
export function makeSample(folder: string, version: 0 | 1 = 1): Sample {
  const objects = join(folder, 'objects');
  for (const size of SIZES) {
    const path = join(objects, objectPath(digestOf(size)));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, contentOf(size));
  }
  // What /objects/outside points at, from the folder of objects.
  writeFileSync(join(folder, 'secret'), contentOf(3000));
  const image = join(folder, 'image.cfs');
  writeFileSync(image, imageOf(`${lines().join('\n')}\n`, version));
  return { image, objects };
}

/** Path of the object with contentOf(size). */
export const objectOf = ({ objects }: Sample, size: number): string =>
  join(objects, objectPath(digestOf(size)));
