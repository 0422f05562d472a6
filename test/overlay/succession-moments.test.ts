// A server that dies at each store to the arena and at each system call of an operation: its successor ends the operation
// as if it had been done once, by one server. Some moments of each operation, all with --rounds; and second deaths.

// First of all: it watches the C library.
import './deaths.js';

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { O, RENAME, S } from '../../src/linux/constants.js';
import { SETATTR } from '../../src/vfs/filesystem.js';
import { dir, file } from '../layer/tree.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { makeFolders, open, type Plan, tmpfs } from './folders.js';
import { type Attributes, type File, got, type Kernel, type Node } from './kernel.js';

const skip = requires({ root: true });

/** What the kernel holds while the operation goes on. */
interface Held {
  readonly nodes: Readonly<Record<string, Node>>;
  readonly files: Readonly<Record<string, File>>;
}

interface Operation {
  readonly plan: Plan;
  readonly hold: (k: Kernel) => Held;
  /** One request whose arguments were looked up before. @returns what a program sees of its result. */
  readonly act: (k: Kernel, held: Held) => unknown;
  /** What has no name afterwards and is not open: a successor may not find it any more. */
  readonly gone?: string;
}

const LOWER = {
  'd/f': file('lower f'),
  'd/g': file('lower g'),
  'd/sub/x': file('x'),
  e: dir(),
  l1: file('linked'),
  l2: { type: 'link', data: 'l1' },
  s: { type: 'symlink', data: 'aim' },
  gone: file('gone'),
  folder: dir({ mode: 0o750 }),
} as const;
const UPPER = {
  u: file('upper u'),
  v: file('upper v', { xattrs: { 'user.k': 'v' } }),
  'p/q': file('q'),
  'p/empty': dir(),
  h1: file('hard'),
  h2: { type: 'link', data: 'h1' },
  gone: { type: 'whiteout' },
} as const;
const PLAN: Plan = { lowers: [LOWER], upper: UPPER, options: ',index=on,metacopy=on' };

const PATHS = [
  'd',
  'd/f',
  'd/g',
  'd/sub',
  'd/sub/x',
  'e',
  'l1',
  's',
  'u',
  'v',
  'p',
  'p/q',
  'p/empty',
  'h1',
  'folder',
];

const holdNodes = (k: Kernel): Record<string, Node> =>
  Object.fromEntries(PATHS.map((path) => [path, k.at(path)]));
const nothingOpen = (k: Kernel): Held => ({ nodes: holdNodes(k), files: {} });
const withFiles =
  (...paths: string[]) =>
  (k: Kernel): Held => ({
    nodes: holdNodes(k),
    files: Object.fromEntries(paths.map((path) => [path, got(k.open(k.at(path), O.RDONLY))])),
  });

const shape = (answer: Attributes | string): unknown =>
  typeof answer === 'string' ? answer : [answer.mode, answer.nlink, answer.size, answer.uid];
/** A new object: that there is one. */
const made = (answer: Node | File | string): string =>
  typeof answer === 'string' ? answer : 'made';

const simple = (act: (k: Kernel, held: Held) => unknown, gone?: string): Operation => ({
  plan: PLAN,
  hold: nothingOpen,
  act,
  ...(gone === undefined ? {} : { gone }),
});
const open1 = (path: string, act: (k: Kernel, held: Held) => unknown): Operation => ({
  plan: PLAN,
  hold: withFiles(path),
  act,
});

const OPERATIONS: Readonly<Record<string, Operation>> = {
  'lookup of a lower directory': simple((k) => made(k.lookup(k.root, 'folder'))),
  'lookup of another name': simple((k) => made(k.lookup(k.root, 'l2'))),
  'create in the upper': simple((k) => made(k.create('p/new', 0o640))),
  'create in a lower directory': simple((k) => made(k.create('d/new', 0o640))),
  'create over a whiteout': simple((k) => made(k.create('gone', 0o600))),
  mkdir: simple((k) => made(k.mkdir('d/new', 0o711))),
  'mkdir over a whiteout': simple((k) => made(k.mkdir('gone'))),
  mknod: simple((k) => made(k.mknod('p/fifo', S.IFIFO | 0o600, 0))),
  symlink: simple((k) => made(k.symlink('p/link', 'somewhere'))),
  'link of an upper file': simple((k, { nodes }) => made(k.link(nodes['u'] as Node, 'p/u2'))),
  'link of a lower file': simple((k, { nodes }) => made(k.link(nodes['d/f'] as Node, 'p/f2'))),
  'link of a lower file with two names': simple((k, { nodes }) =>
    made(k.link(nodes['l1'] as Node, 'p/l3')),
  ),
  'unlink in the upper': simple((k) => k.unlink('u'), 'u'),
  'unlink of an open upper file': open1('u', (k) => k.unlink('u')),
  'unlink of a lower file': simple((k) => k.unlink('d/f'), 'd/f'),
  'unlink of an open lower file': open1('d/f', (k) => k.unlink('d/f')),
  'unlink of one of two upper names': open1('h1', (k) => k.unlink('h1')),
  'unlink of one of two lower names': simple((k) => k.unlink('l1'), 'l1'),
  'rmdir in the upper': simple((k) => k.rmdir('p/empty')),
  'rmdir of a lower directory': simple((k) => k.rmdir('folder')),
  'rename in the upper': simple((k) => k.rename('u', 'p/moved')),
  'rename of a lower file': simple((k) => k.rename('d/f', 'p/moved')),
  'rename of a lower directory': simple((k) => k.rename('d', 'p/moved')),
  'rename over an upper file': simple((k) => k.rename('u', 'v'), 'v'),
  'rename over an open upper file': open1('v', (k) => k.rename('u', 'v')),
  'rename over an open lower file': open1('d/g', (k) => k.rename('u', 'd/g')),
  'rename of a directory over an empty one': simple((k) => k.rename('p', 'e')),
  'rename over a whiteout': simple((k) => k.rename('u', 'gone')),
  'rename of one of two names': simple((k) => k.rename('h1', 'd/h3')),
  'exchange of files': open1('u', (k) => k.rename('u', 'd/f', RENAME.EXCHANGE)),
  'exchange of a file and a directory': simple((k) => k.rename('u', 'd', RENAME.EXCHANGE)),
  'open of a lower file for writing': open1('d/f', (k, { nodes }) =>
    made(k.open(nodes['d/f'] as Node, O.RDWR)),
  ),
  'open that truncates': simple((k, { nodes }) =>
    made(k.open(nodes['u'] as Node, O.RDWR | O.TRUNC)),
  ),
  release: open1('u', (k, { files }) => k.release(files['u'] as File)),
  'unnamed file': simple((k) => made(k.tmpfile('p'))),
  'chmod of a lower file': open1('d/f', (k, { nodes }) =>
    shape(k.chmod(nodes['d/f'] as Node, 0o600)),
  ),
  'chmod of a lower directory': simple((k, { nodes }) =>
    shape(k.chmod(nodes['folder'] as Node, 0o700)),
  ),
  'chmod of one of two names': simple((k, { nodes }) => shape(k.chmod(nodes['l1'] as Node, 0o600))),
  'truncate of a lower file': simple((k, { nodes }) =>
    shape(k.setattr(nodes['d/f'] as Node, { valid: SETATTR.SIZE, size: 3 })),
  ),
  'setxattr that creates': simple((k, { nodes }) =>
    k.setxattr(nodes['u'] as Node, 'user.k', 'value', 1),
  ),
  'setxattr on a lower file': simple((k, { nodes }) =>
    k.setxattr(nodes['d/f'] as Node, 'user.k', 'value', 1),
  ),
  'setxattr that replaces': simple((k, { nodes }) =>
    k.setxattr(nodes['v'] as Node, 'user.k', 'value', 2),
  ),
  removexattr: simple((k, { nodes }) => k.removexattr(nodes['v'] as Node, 'user.k')),
};

/** Everything that may be told from outside afterwards. */
function outcome(k: Kernel, held: Held, result: unknown, base: string, gone?: string): unknown {
  const nodes = Object.entries(held.nodes).map(([path, node]) => {
    if (path === gone) return [path];
    const st = k.getattr(node);
    const number = typeof st === 'string' ? st : st.ino === node.ino ? 'same' : 'other';
    return [path, number, shape(st)];
  });
  const files = Object.entries(held.files).map(([path, f]) => [path, k.read(f)]);
  return {
    result,
    tree: k.tree(),
    nodes,
    files,
    work: readdirSync(join(base, 'work/work')).length,
  };
}

/** Runs the operation with deaths at the given events. */
function run(base: string, { plan, hold, act, gone }: Operation, ...deaths: number[]) {
  const folder = join(base, 'run');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  makeFolders(folder, plan);
  const k = open(folder, plan);
  const held = hold(k);
  if (deaths.length > 0) k.die(deaths[0] as number, ...deaths.slice(1));
  const result = act(k, held);
  const { events } = k;
  const died = k.deaths;
  const seen = outcome(k, held, result, folder, gone);
  k.stop();
  const left = readdirSync(join(folder, 'work/work'));
  const anew = open(folder, plan);
  const tree = anew.tree();
  anew.stop();
  return { events, died, seen: { seen, left, tree } };
}

/** Deaths of each operation; `--rounds 1000` takes every moment there is. */
const DEATHS = campaign('rounds', 20);

/** Numbers from 1 to `events`: all, or DEATHS of them, spread; other ones for each operation and seed. */
function moments(events: number, phase: number): number[] {
  const all = Array.from({ length: events }, (_, i) => i + 1);
  if (DEATHS >= events) return all;
  const step = events / DEATHS;
  return Array.from({ length: DEATHS }, (_, i) => Math.floor((i + phase) * step) + 1);
}

const seed = campaign('seed', 1);

for (const [index, [name, operation]] of Object.entries(OPERATIONS).entries()) {
  test(`death at a moment: ${name}`, { skip, timeout: 900_000 }, (t) => {
    const base = tmpfs(t);
    const { events, seen } = run(base, operation);
    assert.ok(events > 5);
    const phase = ((index + seed) * 0.618) % 1;
    for (const at of moments(events, phase)) {
      const after = run(base, operation, at);
      assert.equal(after.died, 1);
      assert.deepEqual(after.seen, seen, `death before event ${at} of ${events}`);
    }
    // The successor dies as well: at some moment of what it does until it has answered.
    const pairs = Math.max(3, Math.floor(DEATHS / 5));
    for (let i = 1; i <= pairs; i++) {
      const at = Math.ceil((events * i) / pairs);
      const { events: more } = run(base, operation, at);
      const second = Math.ceil(more * ((phase + i * 0.618) % 1));
      const after = run(base, operation, at, second);
      assert.equal(after.died, 2);
      assert.deepEqual(after.seen, seen, `deaths before events ${at} and ${second}`);
    }
  });
}
