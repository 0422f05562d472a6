// Layers that cannot work: each is refused with one line that says what, where and what to do.
// Under test: src/stack/check.ts, src/stack/plan.ts, src/stack/kernel-mount.ts (the text only). Directories, no mounts.

import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseMountInfo } from '../../src/linux/mountinfo.js';
import { checkLayers } from '../../src/stack/check.js';
import { MountError, type MountErrorKind } from '../../src/stack/errors.js';
import { kernelOptions } from '../../src/stack/kernel-mount.js';
import { parseOptions } from '../../src/stack/options.js';
import { planMount } from '../../src/stack/plan.js';
import type { Privilege } from '../../src/stack/privilege.js';
import type { MountSpec } from '../../src/stack/spec.js';
import { tempDir } from '../support/temp.js';

/** A folder with a, b, u, w, m, a symlink to a, a file, and u/inner, a/inner. */
function place(t: { after(fn: () => void): void }): string {
  const folder = tempDir(t);
  for (const name of ['a/inner', 'b', 'u/inner', 'w', 'm']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  symlinkSync('a', join(folder, 'link'));
  writeFileSync(join(folder, 'file'), '');
  return folder;
}

function check(folder: string, options: string, mountpoint = 'm', table = ''): MountSpec {
  const parsed = parseOptions([options], { defaults: '' });
  return checkLayers(parsed, mountpoint, false, folder, parseMountInfo(table));
}

test('paths become absolute and symlinks are resolved', (t) => {
  const folder = place(t);
  const spec = check(folder, 'lowerdir=link:b,upperdir=u,workdir=./w');
  assert.deepEqual(spec.lowerdirs, [join(folder, 'a'), join(folder, 'b')]);
  assert.equal(spec.upperdir, join(folder, 'u'));
  assert.equal(spec.workdir, join(folder, 'w'));
  assert.equal(spec.mountpoint, join(folder, 'm'));
  assert.equal('backend' in spec, false);
});

const refused: readonly (readonly [string, string, string, MountErrorKind, RegExp])[] = [
  [
    'a missing lower',
    'lowerdir=a:nope',
    'm',
    'layer',
    /^lowerdir: nope: no such directory: create it/,
  ],
  [
    'a lower that is a file of another kind',
    'lowerdir=file',
    'm',
    'layer',
    /^lowerdir: file is neither a directory nor an EROFS image: name one of the two$/,
  ],
  [
    'a missing upper',
    'lowerdir=a,upperdir=nope,workdir=w',
    'm',
    'layer',
    /^upperdir: nope: no such/,
  ],
  [
    'a missing workdir',
    'lowerdir=a,upperdir=u,workdir=nope',
    'm',
    'layer',
    /^workdir: nope: no such/,
  ],
  ['a lower twice', 'lowerdir=a:b:a', 'm', 'layer', /the same directory twice/],
  ['a lower twice, by a symlink', 'lowerdir=a:link', 'm', 'layer', /the same directory twice/],
  ['a lower that is a data layer too', 'lowerdir=a::a', 'm', 'layer', /the same directory twice/],
  [
    'an upper that is a lower',
    'lowerdir=a,upperdir=a,workdir=w',
    'm',
    'layer',
    /^upperdir: .*\/a is the layer/,
  ],
  [
    'an upper inside a lower',
    'lowerdir=a,upperdir=a/inner,workdir=w',
    'm',
    'layer',
    /lies inside the layer/,
  ],
  [
    'a lower inside the upper',
    'lowerdir=u/inner,upperdir=u,workdir=w',
    'm',
    'layer',
    /lies inside the upperdir/,
  ],
  [
    'a workdir inside a lower',
    'lowerdir=a,upperdir=u,workdir=a/inner',
    'm',
    'layer',
    /lies inside the layer/,
  ],
  [
    'a workdir inside the upper',
    'lowerdir=a,upperdir=u,workdir=u/inner',
    'm',
    'layer',
    /neither may hold the other/,
  ],
  [
    'an upper inside the workdir',
    'lowerdir=a,upperdir=u/inner,workdir=u',
    'm',
    'layer',
    /neither may hold the other/,
  ],
  [
    'workdir and upper in one',
    'lowerdir=a,upperdir=u,workdir=u',
    'm',
    'layer',
    /neither may hold the other/,
  ],
  [
    'a missing mount point',
    'lowerdir=a',
    'nope',
    'layer',
    /^mount point: nope: no such directory: create it first/,
  ],
  [
    'a mount point that is a file',
    'lowerdir=a',
    'file',
    'layer',
    /^mount point: file is not a directory/,
  ],
];

for (const [name, options, mountpoint, kind, message] of refused) {
  test(`refuses ${name}`, (t) => {
    const folder = place(t);
    assert.throws(
      () => check(folder, options, mountpoint),
      (error) =>
        error instanceof MountError &&
        error.kind === kind &&
        message.test(error.message) &&
        !error.message.includes('\n'),
    );
  });
}

test('refuses an upper that the kernel is writing to', (t) => {
  const folder = place(t);
  const table = `30 1 0:40 / /elsewhere rw - overlay o rw,lowerdir=/x,upperdir=${folder}/u,workdir=${folder}/w\n`;
  assert.throws(
    () => check(folder, 'lowerdir=a,upperdir=u,workdir=w', 'm', table),
    (error) =>
      error instanceof MountError &&
      error.kind === 'busy' &&
      /in use by the overlay on \/elsewhere/.test(error.message),
  );
});

test('refuses a workdir below another mount than the upper', (t) => {
  const folder = place(t);
  const table = `1 0 8:1 / / rw - ext4 d rw\n2 1 8:1 /x ${folder}/w rw - ext4 d rw\n`;
  assert.throws(
    () => check(folder, 'lowerdir=a,upperdir=u,workdir=w', 'm', table),
    /different filesystems/,
  );
});

const root: Privilege = { euid: 0, mayMount: true, initialNamespace: true, full: true };
const user: Privilege = { euid: 1000, mayMount: false, initialNamespace: true, full: false };

test('auto takes the kernel only where nothing is lost', (t) => {
  const folder = place(t);
  const plan = (options: string, rights: Privilege): string => {
    const parsed = parseOptions([options], { defaults: '' });
    const { backend, reason } = planMount(parsed, check(folder, options), rights, 'auto');
    return `${backend}: ${reason}`;
  };
  assert.equal(plan('lowerdir=a:b', root), 'kernel: read-only and on one filesystem');
  assert.equal(plan('lowerdir=a', root), 'kernel: read-only and on one filesystem');
  assert.equal(plan('lowerdir=a:b', user), 'fuse: mounting is not permitted here');
  assert.equal(plan('lowerdir=a,upperdir=u,workdir=w', root), 'fuse: it is writable');
  assert.equal(plan('lowerdir=a:/proc', root), 'fuse: the layers are on several filesystems');
  assert.equal(plan('lowerdir=a::b', root), 'fuse: it has data-only layers');
  for (const option of [
    'whiteouts=aufs',
    'squash_to_uid=1',
    'uidmapping=0:1:1',
    'noacl',
    'static_nlink',
    'ino32',
  ]) {
    assert.match(plan(`lowerdir=a:b,${option}`, root), /^fuse: the kernel has no /);
  }
});

test('a backend that cannot do it is refused', (t) => {
  const folder = place(t);
  const plan = (options: string, rights: Privilege, wanted: 'kernel' | 'fuse' | 'auto') =>
    planMount(parseOptions([options], { defaults: '' }), check(folder, options), rights, wanted);
  assert.throws(
    () => plan('lowerdir=a:b,squash_to_root', root, 'kernel'),
    /the kernel has no squash/,
  );
  assert.throws(() => plan('lowerdir=a:b', user, 'kernel'), /only root/);
  assert.throws(
    () => plan('lowerdir=a:b,metacopy=on,verity=require', root, 'fuse'),
    /only the kernel checks/,
  );
  for (const wanted of ['fuse', 'auto'] as const) {
    assert.throws(() => plan('lowerdir=a,nfs_export=on', user, wanted), {
      kind: 'permission',
      message: /^nfs_export=on: only root of the initial user namespace/,
    });
  }
  assert.equal(plan('lowerdir=a,nfs_export=on', root, 'fuse').backend, 'fuse');
  assert.equal(plan('lowerdir=a,upperdir=u,workdir=w', root, 'kernel').backend, 'kernel');
});

test('the options in the words of the kernel', (t) => {
  const folder = place(t);
  mkdirSync(join(folder, 'c,:\\d'));
  const text = (options: string): string =>
    kernelOptions(check(folder, options), 'off', '/empty').replaceAll(folder, '');
  assert.equal(text('lowerdir=a:b'), 'lowerdir=/a:/b,redirect_dir=on');
  assert.equal(text('lowerdir=a'), 'lowerdir=/a:/empty,redirect_dir=on,xino=on');
  assert.equal(
    text('lowerdir=a,upperdir=u,workdir=w,metacopy=on,volatile'),
    'lowerdir=/a,upperdir=/u,workdir=/w,index=on,volatile,redirect_dir=on,metacopy=on',
  );
  assert.equal(text('lowerdir=a:b,userxattr'), 'lowerdir=/a:/b,userxattr');
  assert.equal(text('lowerdir=c\\,\\:\\\\d:b'), 'lowerdir=/c\\,\\:\\\\d:/b,redirect_dir=on');
});
