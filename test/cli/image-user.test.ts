// Who a command of an image is. The rows are what podman 4.3 with runc does with the same image.

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { imageUser } from '../../src/cli/image-user.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const PASSWD = `root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
1234:x:1500:1501:num:/num:/bin/sh
nohome:x:1600:1601:::/bin/sh
broken:x:many:1:::
`;
const GROUP = `root:x:0:root
disk:x:6:root,app
app:x:1001:
extra:x:2000:app,other
more:x:2001:other,app
777:x:3000:app
broken:x:many:app
`;

const ROWS: readonly [string, number, number, number[], string][] = [
  ['', 0, 0, [0, 6], '/root'],
  ['root', 0, 0, [0, 6], '/root'],
  ['0', 0, 0, [0, 6], '/root'],
  ['app', 1000, 1001, [6, 1001, 2000, 2001, 3000], '/home/app'],
  ['1000', 1000, 1001, [6, 1001, 2000, 2001, 3000], '/home/app'],
  ['app:disk', 1000, 6, [6], '/home/app'],
  ['app:2001', 1000, 2001, [2001], '/home/app'],
  ['app:4000', 1000, 4000, [4000], '/home/app'],
  ['1000:app', 1000, 1001, [1001], '/home/app'],
  ['app:', 1000, 1001, [1001], '/home/app'],
  [':disk', 0, 6, [6], '/root'],
  ['0:app', 0, 1001, [1001], '/root'],
  ['5000', 5000, 0, [0], '/'],
  ['5000:5001', 5000, 5001, [5001], '/'],
  // A number is a number, also where a user is called so.
  ['1234', 1234, 0, [0], '/'],
  ['nohome', 1600, 1601, [1601], '/'],
];

test('users of an image: number, groups, home', () => {
  for (const [spec, uid, gid, groups, home] of ROWS) {
    assert.deepEqual(imageUser(spec, PASSWD, GROUP), { uid, gid, groups, home }, spec);
  }
  assert.deepEqual(imageUser('', '', ''), { uid: 0, gid: 0, groups: [0], home: '/' });
  assert.deepEqual(imageUser('root', '', ''), { uid: 0, gid: 0, groups: [0], home: '/' });
  for (const [spec, why] of [
    ['ghost', /runs as ghost: its \/etc\/passwd has no user ghost: --user/],
    ['app:ghost', /runs as app:ghost: its \/etc\/group has no group ghost: --user/],
    ['4294967295', /4294967295 is no number from 0 to 2147483647/],
    ['0:4294967295', /4294967295 is no number/],
    ['broken', /many is no number/],
    ['-1', /no user -1/],
  ] as const) {
    assert.throws(() => imageUser(spec, PASSWD, GROUP), why);
  }
});

test('varve run --user: what the command is', {
  skip: requires({ root: true, features: ['fuse', 'userns'], packages: ['busybox-static'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  for (const name of ['bin', 'etc', 'proc', 'dev', 'sys']) {
    mkdirSync(join(tree, name), { recursive: true });
  }
  copyFileSync('/bin/busybox', join(tree, 'bin/busybox'));
  symlinkSync('busybox', join(tree, 'bin/sh'));
  writeFileSync(join(tree, 'etc/passwd'), PASSWD);
  writeFileSync(join(tree, 'etc/group'), GROUP);
  const caller = new Caller(folder);
  const ref = `${fake.host}/users:1`;
  await caller.must('push', '--plain-http', '-q', tree, ref);
  const who =
    'busybox grep -E "^(Uid|Gid|Groups)" /proc/self/status | busybox tr -s "\\n\\t" "  "; echo $HOME';
  const asked = (...flags: string[]) =>
    caller.varve('run', '--plain-http', '-q', ...flags, ref, '--', 'sh', '-c', who);
  const all = (id: number): string => Array(4).fill(id).join(' ');
  assert.equal((await asked()).out, `Uid: ${all(0)} Gid: ${all(0)} Groups: 0 6 /root\n`);
  assert.equal(
    (await asked('--user', 'app')).out,
    `Uid: ${all(1000)} Gid: ${all(1001)} Groups: 6 1001 2000 2001 3000 /home/app\n`,
  );
  const other = await asked('-u', '5000:disk');
  assert.equal(other.out, `Uid: ${all(5000)} Gid: ${all(6)} Groups: 6 /\n`);
  const ghost = await asked('--user', 'ghost');
  assert.equal(ghost.code, 3);
  assert.match(ghost.err, /^varve: run: the image runs as ghost: .*\n$/);
  assert.equal(ghost.out, '');
});
