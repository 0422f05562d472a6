// Which mounts a path leads to, and what a sandbox puts in their place: for root, and in a user namespace.
// Under test: src/sandbox/{visible,covers}.ts, on tables that no machine needs to have.
// Whether the kernel accepts what is planned is tested by test/cli/try.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MountEntry } from '../../src/linux/mountinfo.js';
import {
  coversAround,
  type Kind,
  type Machine,
  planCovers,
  type Wish,
} from '../../src/sandbox/covers.js';
import { visibleMounts } from '../../src/sandbox/visible.js';

type Row = readonly [id: number, parent: number, place: string, type?: string, options?: string];

function table(rows: readonly Row[]): MountEntry[] {
  return rows.map(([id, parent, mountpoint, type = 'ext4', options = 'rw']) => ({
    id,
    parent,
    device: `0:${id}`,
    root: '/',
    mountpoint,
    options,
    type,
    source: 'none',
    superOptions: 'rw',
  }));
}

const SYSTEM: readonly Row[] = [
  [2, 1, '/proc', 'proc'],
  [3, 1, '/sys', 'sysfs'],
  [4, 3, '/sys/fs/cgroup', 'cgroup2'],
  [5, 1, '/dev', 'devtmpfs'],
  [1, 0, '/'],
  [6, 1, '/run', 'tmpfs'],
  [7, 6, '/run/user/1000', 'tmpfs'],
  [8, 1, '/home'],
  [9, 1, '/mnt/disc', 'iso9660', 'ro,noexec'],
];

/** Directories end in a slash, symlinks have an arrow. */
function machine(rows: readonly Row[], tree: Record<string, readonly string[]>): Machine {
  const kindOf = (path: string): Kind | undefined =>
    rows.some(([, , place]) => place === path) || path in tree ? 'directory' : undefined;
  return {
    mounts: table(rows),
    kindOf,
    list: (path) =>
      tree[path]?.map((word) => {
        if (word.endsWith('/')) return { name: word.slice(0, -1), kind: 'directory' as const };
        const [name = '', target] = word.split('>');
        return { name, kind: target === undefined ? ('file' as const) : ('symlink' as const) };
      }),
    readlink: (path) => {
      const [folder, name] = [path.slice(0, path.lastIndexOf('/')) || '/', path.split('/').at(-1)];
      return tree[folder]?.find((word) => word.startsWith(`${name}>`))?.split('>')[1] ?? '';
    },
  };
}

const WISH: Wish = { writable: undefined, scratch: [], locked: false };

function plan(rows: readonly Row[], wish: Partial<Wish>, tree = TREE): string[] {
  return planCovers(machine(rows, tree), { ...WISH, ...wish }).map(
    ({ kind, path, noexec, target, scratch }) =>
      `${kind}${scratch ? '(scratch)' : ''} ${path}${noexec ? ' noexec' : ''}${target ? ` > ${target}` : ''}`,
  );
}

const TREE: Record<string, readonly string[]> = {
  '/': ['bin>usr/bin', 'dev/', 'home/', 'mnt/', 'proc/', 'run/', 'sys/', 'usr/', 'vmlinuz'],
  '/mnt': ['disc/', 'other/', 'note'],
  '/run': ['user/', 'lock/'],
  '/run/user': ['1000/'],
};

test('mounts that others cover are not seen', () => {
  const rows: readonly Row[] = [
    [1, 0, '/'],
    [2, 1, '/a'],
    [3, 2, '/a/b'],
    [4, 2, '/a/b/c'],
    // On top of /a: what is below it is out of reach.
    [5, 2, '/a'],
    [6, 5, '/a/b'],
    [7, 1, '/x/y'],
    // Above /x/y, made later.
    [8, 1, '/x'],
    // A sibling that only begins like it.
    [9, 1, '/xy'],
  ];
  const seen = visibleMounts(table(rows)).map(({ id, mountpoint }) => `${id} ${mountpoint}`);
  assert.deepEqual(seen, ['1 /', '5 /a', '6 /a/b', '8 /x', '9 /xy']);
});

test('root: every mount that holds data takes writes, as far as it does anyway', () => {
  assert.deepEqual(plan(SYSTEM, {}), [
    'write /',
    'write /home',
    'scratch /run',
    'read /mnt/disc noexec',
  ]);
});

test('root, some directories: everything else is read-only', () => {
  assert.deepEqual(plan(SYSTEM, { writable: ['/srv/x', '/home', '/mnt'] }), [
    'read /',
    'scratch /run',
    'write /home',
    'write /mnt',
    'write /srv/x',
    'read /mnt/disc noexec',
  ]);
});

test('a user namespace: directories with mounts below are made anew', () => {
  assert.deepEqual(
    plan(SYSTEM, { locked: true, writable: ['/home/u'], runtime: '/run/user/1000' }),
    [
      'frame /',
      'link /bin > usr/bin',
      'read /home',
      'frame /mnt',
      'frame /run',
      'read /usr',
      'file /vmlinuz',
      'read /mnt/disc noexec',
      'read /mnt/other',
      'file /mnt/note',
      'frame /run/user',
      'read /run/lock',
      'write /home/u',
      'read /run/user/1000',
      'tmp /run/user/1000',
    ],
  );
});

test('a temporary folder with a mount in it forgets, and what is the user’s own in it is kept', () => {
  const rows: readonly Row[] = [...SYSTEM, [10, 1, '/tmp/m/x']];
  const tree = { ...TREE, '/': ['tmp/'], '/tmp': ['m/', 'mine/', 'file'], '/tmp/m': ['x/'] };
  const wish = { locked: true, scratch: ['/tmp'], writable: ['/tmp/mine'] };
  assert.deepEqual(plan(rows, wish, tree), [
    'frame /',
    'frame(scratch) /tmp',
    'frame /tmp/m',
    'file /tmp/file',
    'write /tmp/mine',
    'read /tmp/m/x',
  ]);
});

test('a directory that may not be listed is left empty where it has mounts below', () => {
  const rows: readonly Row[] = [...SYSTEM, [10, 1, '/srv/secret/m']];
  const tree = { '/': ['srv/'], '/srv': ['secret/'] };
  assert.deepEqual(plan(rows, { locked: true, writable: [] }, tree), [
    'frame /',
    'frame /srv',
    'frame /srv/secret',
  ]);
});

test('around what was mounted since the plan was made, everything else is covered one by one', () => {
  const tree = { '/srv': ['m/', 'other/', 'note', 'l>note'], '/srv/m': ['x/', 'y/'] };
  const rows: readonly Row[] = [...SYSTEM, [10, 1, '/srv/m/x'], [11, 1, '/srv/place']];
  const covers = coversAround(machine(rows, tree), '/srv', '/srv/place');
  assert.deepEqual(
    covers?.map(({ kind, path }) => `${kind} ${path}`),
    [
      'frame /srv',
      'frame /srv/m',
      'read /srv/m/x',
      'read /srv/m/y',
      'read /srv/other',
      'file /srv/note',
      'link /srv/l',
    ],
  );
  assert.equal(coversAround(machine(SYSTEM, tree), '/srv', '/srv/place'), undefined);
});
