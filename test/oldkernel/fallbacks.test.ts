// What src/linux does where the kernel lacks a newer call, on a kernel that has it: both ways must give the same.
// The older kernel itself is in oldkernel.test.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { O } from '../../src/linux/constants.js';
import { errnoName } from '../../src/linux/errno.js';
import { filesystemUuid } from '../../src/linux/handles.js';
import { getBytes, mapMemory, putBytes, scratch } from '../../src/linux/memory.js';
import {
  assumeXattrat,
  getxattrAt,
  listxattrAt,
  removexattrAt,
  setxattrAt,
} from '../../src/linux/xattr.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

// Scratch of this thread that the wrappers leave alone.
const [NAME, KEY, VALUE, LIST] = [0x20000, 0x21000, 0x22000, 0x24000].map((at) => scratch + at);
const CREATE = 1;

const root = requires({ root: true });
const longName = 'n'.repeat(255);

test('attributes by name: the same with and without the *xattrat calls', { skip: root }, (t) => {
  mapMemory();
  t.after(() => assumeXattrat(undefined));
  const results = [true, false].map((known) => {
    assumeXattrat(known);
    return attributeCalls(t);
  });
  // Without the calls (before Linux 6.13) the first of the two has nothing to say.
  if (!results[0].some((line) => line.endsWith('ENOSYS'))) assert.deepEqual(results[1], results[0]);
  assert.deepEqual(results[1], [
    'set file user.a: 0',
    'set file user.a: EEXIST',
    'set file trusted.b: 0',
    'get file user.a: one',
    'get file user.none: ENODATA',
    'get file user.a into 1 byte: ERANGE',
    'length file user.a: 3',
    'list file: trusted.b user.a',
    'remove file user.a: 0',
    'remove file user.a: ENODATA',
    'list file: trusted.b',
    `set ${longName} user.a: 0`,
    `get ${longName} user.a: one`,
    'set link user.a: EPERM',
    'set link trusted.a: 0',
    'get link trusted.a: one',
    'get file trusted.a: ENODATA',
    'get dangling user.a: ENODATA',
    'get none user.a: ENOENT',
    'set folder/file user.a: 0',
    'set  user.a: 0',
    'get  user.a: one',
    'list : user.a',
    'remove  user.a: 0',
  ]);
});

/** A fixed sequence in a new folder, as lines of `call: result`. An empty name is the folder itself. */
function attributeCalls(t: TestContext): string[] {
  const folder = tempDir(t);
  for (const name of ['file', longName]) writeFileSync(join(folder, name), '');
  mkdirSync(join(folder, 'folder'));
  writeFileSync(join(folder, 'folder/file'), '');
  symlinkSync('file', join(folder, 'link'));
  symlinkSync('none', join(folder, 'dangling'));
  const dir = openSync(folder, O.PATH | O.DIRECTORY);
  const lines: string[] = [];
  const note = (call: string, result: number, text?: () => string): void => {
    const shown = result < 0 ? errnoName(result) : (text?.() ?? String(result));
    lines.push(`${call}: ${shown}`);
  };
  const put = (name: string, key: string): void => {
    putBytes(NAME, name);
    putBytes(KEY, key);
  };
  const set = (name: string, key: string, flags = 0): void => {
    put(name, key);
    note(`set ${name} ${key}`, setxattrAt(dir, NAME, KEY, VALUE, putBytes(VALUE, 'one'), flags));
  };
  const get = (name: string, key: string): void => {
    put(name, key);
    const n = getxattrAt(dir, NAME, KEY, VALUE, 64);
    note(`get ${name} ${key}`, n, () => getBytes(VALUE, n));
  };
  const list = (name: string): void => {
    put(name, '');
    const n = listxattrAt(dir, NAME, LIST, 1024);
    const names = (): string[] => getBytes(LIST, n).split('\0').filter(Boolean).sort();
    note(`list ${name}`, n, () =>
      names()
        .filter((key) => !key.startsWith('security.'))
        .join(' '),
    );
  };
  const remove = (name: string, key: string): void => {
    put(name, key);
    note(`remove ${name} ${key}`, removexattrAt(dir, NAME, KEY));
  };

  set('file', 'user.a');
  set('file', 'user.a', CREATE);
  set('file', 'trusted.b');
  get('file', 'user.a');
  get('file', 'user.none');
  put('file', 'user.a');
  note('get file user.a into 1 byte', getxattrAt(dir, NAME, KEY, VALUE, 1));
  note('length file user.a', getxattrAt(dir, NAME, KEY, VALUE, 0));
  list('file');
  remove('file', 'user.a');
  remove('file', 'user.a');
  list('file');
  set(longName, 'user.a');
  get(longName, 'user.a');
  set('link', 'user.a');
  set('link', 'trusted.a');
  get('link', 'trusted.a');
  get('file', 'trusted.a');
  get('dangling', 'user.a');
  get('none', 'user.a');
  set('folder/file', 'user.a');
  set('', 'user.a');
  get('', 'user.a');
  list('');
  remove('', 'user.a');
  closeSync(dir);
  return lines;
}

const uuid = '01234567-89ab-4def-8123-456789abcdef';
const images = [
  { type: 'ext4', mkfs: ['mkfs.ext4', '-q', '-U', uuid], package: 'e2fsprogs', megabytes: 16 },
  {
    type: 'xfs',
    mkfs: ['mkfs.xfs', '-q', '-m', `uuid=${uuid}`],
    package: 'xfsprogs',
    megabytes: 320,
  },
] as const;

for (const image of images) {
  const needs = { root: true, packages: [image.package], features: ['loop', image.type] } as const;
  test(`the UUID of ${image.type} without the common call`, { skip: requires(needs) }, (t) => {
    mapMemory();
    const folder = tempDir(t);
    const file = join(folder, 'image');
    const mounted = join(folder, 'mounted');
    mkdirSync(mounted);
    writeFileSync(file, '');
    truncateSync(file, image.megabytes << 20);
    run(...image.mkfs, file);
    run('mount', '-o', 'loop', file, mounted);
    const fd = openSync(mounted, O.RDONLY | O.DIRECTORY);
    try {
      for (const newer of [true, false]) {
        const found = filesystemUuid(fd, newer);
        assert.equal(Buffer.from(found ?? []).toString('hex'), uuid.replaceAll('-', ''));
      }
    } finally {
      closeSync(fd);
    }
  });
}

test('a filesystem that does not tell its UUID', () => {
  mapMemory();
  const fd = openSync('/proc', O.RDONLY | O.DIRECTORY);
  assert.equal(filesystemUuid(fd, false), undefined);
  closeSync(fd);
});

function run(...words: readonly string[]): void {
  const result = spawnSync(words[0], words.slice(1), { encoding: 'utf8' });
  assert.equal(result.status, 0, result.error?.message ?? result.stderr);
}
