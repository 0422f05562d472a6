// Whiteouts and opaque directories of a container image, in mounts of both namespaces of marks: each hides what it must, and shows no mark of either.
// Under test: src/lazy/tar/whiteouts.ts and who reads what it has written; the oracle is the archive.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { KERNEL_WAY } from './kernel-place.js';
import { addImage, tarOf } from './tar-image.js';

const xattrsOf = (path: string): Record<string, string> => {
  const text = execFileSync('getfattr', ['--absolute-names', '-d', '-m', '-', path]).toString();
  const rows = text.split('\n').filter((line) => line.includes('=') && !line.startsWith('#'));
  return Object.fromEntries(rows.map((row) => row.split('=', 2)));
};

test('marks of layers', {
  skip: requires({ ...KERNEL_WAY, features: [...KERNEL_WAY.features, 'fuse'], packages: ['attr'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const [below, above, mnt] = ['below', 'above', 'mnt'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [
    mnt,
    join(below, 'opaque'),
    join(below, 'gone'),
    join(below, 'kept'),
    join(above, 'opaque'),
  ])
    mkdirSync(path, { recursive: true });
  writeFileSync(join(below, 'opaque/hidden'), '');
  writeFileSync(join(above, 'opaque/.wh..wh..opq'), '');
  writeFileSync(join(above, 'opaque/shown'), '');
  writeFileSync(join(above, '.wh.gone'), '');
  // What a layer says of its own is data, never a mark.
  for (const name of ['user.overlay.opaque', 'user.overlay.own', 'user.plain']) {
    execFileSync('setfattr', ['-n', name, '-v', 'y', join(below, 'kept')]);
  }
  const tars = [below, above].map((path) =>
    tarOf(path, '--format=pax', '--xattrs', '--xattrs-include=*'),
  );
  addImage(
    fake,
    'app',
    tars.map((bytes) => ({ bytes })),
    tars,
  );
  const ref = `${fake.host}/app:tag`;
  const caller = new Caller(join(folder, 'user'));
  await caller.must('pull', '--plain-http', '-q', ref);
  t.after(() => caller.varve('umount', '--force', mnt));

  const ways = [
    ['--backend=kernel', ''],
    ['--backend=fuse', ''],
    ['--backend=fuse', 'userxattr,'],
  ] as const;
  for (const [i, [backend, options]] of ways.entries()) {
    const what = `${backend} ${options}`;
    const [upper, work] = [join(folder, `upper-${i}`), join(folder, `work-${i}`)];
    for (const path of [upper, work]) mkdirSync(path);
    const dirs = `${options}upperdir=${upper},workdir=${work}`;
    await caller.must('mount', '-q', backend, '-o', dirs, ref, mnt);
    assert.deepEqual(readdirSync(mnt).sort(), ['kept', 'opaque'], what);
    assert.deepEqual(readdirSync(join(mnt, 'opaque')), ['shown'], what);
    assert.deepEqual(xattrsOf(join(mnt, 'opaque')), {}, what);
    const own = { 'user.overlay.opaque': '"y"', 'user.overlay.own': '"y"', 'user.plain': '"y"' };
    assert.deepEqual(xattrsOf(join(mnt, 'kept')), own, what);
    // A copy of it has the marks of its own stack alone.
    execFileSync('chmod', ['700', join(mnt, 'opaque')]);
    const other = options === '' ? /^user\./ : /^trusted\./;
    const copied = Object.keys(xattrsOf(join(upper, 'opaque')));
    assert.deepEqual(
      copied.filter((name) => other.test(name)),
      [],
      what,
    );
    const changed = await caller.must('diff', '--json', mnt);
    assert.match(changed.out, /opaque/);
    await caller.must('umount', mnt);
  }

  const refused = await caller.varve('mount', '--backend=kernel', '-o', 'userxattr', ref, mnt);
  assert.equal(refused.code, 2, refused.err);
  assert.match(refused.err, /whose marks are trusted/);
});
