// Random trees for property tests: every kind of object, bytes in names, hard links, times before 1970.
// Used by the tests of dumps, of extraction and of image writers.

import fc from 'fast-check';
import { S } from '../../src/linux/constants.js';
import { encodeDevice } from '../../src/linux/device.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';

export interface RandomTreeOptions {
  /** Only what a plain folder on disk can hold: owners of this process, no devices or privileged xattrs. */
  readonly unprivileged?: boolean;
  /** Largest file, bytes. */
  readonly maxSize?: number;
  /** Files with holes: data at these places only. */
  readonly holes?: boolean;
}

interface Plan {
  readonly name: string;
  readonly kind: 'dir' | 'file' | 'sparse' | 'link' | 'fifo' | 'chr' | 'blk' | 'sock' | 'hard';
  /** Which of the directories made so far it goes to, and which file a hard link means. */
  readonly where: number;
  readonly which: number;
  readonly perm: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNsec: number;
  readonly rdev: number;
  readonly data: Uint8Array;
  readonly target: string;
  readonly xattrs: readonly (readonly [string, Uint8Array])[];
}

const byte = (min: number, max: number) =>
  fc.integer({ min, max }).map((code) => String.fromCharCode(code));

/** A file name: any bytes but NUL and slash, now and then as long as a name can be. */
const name = fc
  .oneof(
    {
      weight: 8,
      arbitrary: fc.array(fc.oneof(byte(0x61, 0x66), byte(0x01, 0xff)), {
        minLength: 1,
        maxLength: 6,
      }),
    },
    { weight: 1, arbitrary: fc.array(byte(0x30, 0x7a), { minLength: 250, maxLength: 255 }) },
  )
  .map((chars) => chars.join('').replaceAll('/', '_'))
  .filter((text) => text !== '.' && text !== '..');

const xattr = (prefixes: readonly string[]) =>
  fc.tuple(
    fc
      .tuple(
        fc.constantFrom(...prefixes),
        fc.array(byte(0x21, 0xff), { minLength: 1, maxLength: 8 }),
      )
      .map(([prefix, chars]) => prefix + chars.join('')),
    fc.uint8Array({ maxLength: 40 }),
  );

function plan(options: RandomTreeOptions): fc.Arbitrary<Plan> {
  const plain = options.unprivileged === true;
  const id = plain ? fc.constant(-1) : fc.oneof(fc.nat(3000), fc.nat(0xffff_fffe));
  return fc.record<Plan>({
    name,
    kind: fc.constantFrom(
      'dir',
      'file',
      'file',
      'file',
      'link',
      'hard',
      'fifo',
      ...(options.holes ? (['sparse'] as const) : []),
      ...(plain ? [] : (['chr', 'blk', 'sock'] as const)),
    ),
    where: fc.nat(),
    which: fc.nat(),
    perm: plain ? fc.constantFrom(0o644, 0o755, 0o700, 0o600) : fc.nat(0o7777),
    uid: id,
    gid: id,
    mtime: fc.oneof(
      fc.integer({ min: 0, max: 2 ** 31 }),
      // What the time stamps of ext4 hold.
      fc.integer({ min: -(2 ** 31), max: 15_032_385_535 }),
    ),
    mtimeNsec: fc.nat(999_999_999),
    // What XFS has room for: major numbers of 9 bits, minor numbers of 18.
    rdev: fc
      .tuple(fc.nat(511), fc.nat(0x3ffff))
      .map(([major, minor]) => encodeDevice(major, minor)),
    data: fc.uint8Array({ maxLength: options.maxSize ?? 200 }),
    target: fc
      .array(byte(0x01, 0xff), { minLength: 1, maxLength: 60 })
      .map((chars) => chars.join('')),
    xattrs: fc.array(xattr(plain ? ['user.'] : ['user.', 'trusted.', 'security.']), {
      maxLength: 3,
    }),
  });
}

/** A tree of up to some forty objects. */
export function randomTree(options: RandomTreeOptions = {}): fc.Arbitrary<TreeNode> {
  return fc
    .tuple(plan(options), fc.array(plan(options), { maxLength: 40 }))
    .map(([root, plans]) => build(root, plans));
}

function build(rootPlan: Plan, plans: readonly Plan[]): TreeNode {
  const root = node({ ...rootPlan, kind: 'dir', perm: rootPlan.perm | 0o700 });
  const dirs = [root];
  const files: TreeNode[] = [];
  for (const each of plans) {
    const dir = dirs[each.where % dirs.length] as TreeNode;
    if (dir.entries?.has(each.name)) continue;
    const linked = each.kind === 'hard' ? files[each.which % Math.max(files.length, 1)] : undefined;
    const made = linked ?? node(each);
    add(dir, each.name, made);
    if (made.entries !== undefined) dirs.push(made);
    else if (linked === undefined) files.push(made);
  }
  return root;
}

const TYPES = {
  dir: S.IFDIR,
  file: S.IFREG,
  hard: S.IFREG,
  sparse: S.IFREG,
  link: S.IFLNK,
  fifo: S.IFIFO,
  chr: S.IFCHR,
  blk: S.IFBLK,
  sock: S.IFSOCK,
} as const;

function node(from: Plan): TreeNode {
  const { kind } = from;
  const made = makeNode(TYPES[kind] | (kind === 'link' ? 0o777 : from.perm), {
    uid: from.uid === -1 ? process.getuid?.() : from.uid,
    gid: from.gid === -1 ? process.getgid?.() : from.gid,
    mtime: from.mtime,
    mtimeNsec: from.mtimeNsec,
  });
  if (kind === 'chr' || kind === 'blk') made.rdev = from.rdev;
  if (kind === 'link') {
    made.target = from.target;
    made.size = from.target.length;
  } else if (kind === 'dir' || TYPES[kind] === S.IFREG) {
    // The kernel keeps user.* from everything else.
    const sorted = [...new Map(from.xattrs)].sort(([a], [b]) => (a < b ? -1 : 1));
    if (sorted.length > 0) made.xattrs = new Map(sorted);
  }
  if (kind === 'sparse') makeSparse(made, from.data);
  else if (TYPES[kind] === S.IFREG && from.data.length > 0) {
    made.size = from.data.length;
    made.content = memoryContent(from.data);
  }
  return made;
}

/** A megabyte with `data` at its half, and the rest a hole. */
function makeSparse(made: TreeNode, data: Uint8Array): void {
  made.size = 1024 * 1024;
  if (data.length === 0) return;
  const bytes = new Uint8Array(made.size);
  const at = made.size / 2;
  bytes.set(data, at);
  made.content = { ...memoryContent(bytes), extents: [{ at, length: data.length }] };
}
