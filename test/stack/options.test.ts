// The -o options: rows of text and what they set, rows that are refused with their message, and properties.
// Under test: src/stack/options.ts, src/stack/option-text.ts. No file is touched.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MountError } from '../../src/stack/errors.js';
import { type MountOptions, OPTIONS } from '../../src/stack/option-table.js';
import {
  escapePath,
  joinLayers,
  splitLayers,
  splitOptions,
  unescapeValue,
} from '../../src/stack/option-text.js';
import { type Dialect, parseOptions } from '../../src/stack/options.js';

const plain: Dialect = { defaults: '' };
const parse = (text: string, dialect = plain): MountOptions => parseOptions([text], dialect);

const accepted: readonly (readonly [string, Partial<MountOptions>])[] = [
  ['lowerdir=/a', { lowerdirs: ['/a'], datadirs: [], readOnly: true, metacopy: false }],
  ['lowerdir=/a:/b:c', { lowerdirs: ['/a', '/b', 'c'] }],
  ['lowerdir=/a\\:b:/c', { lowerdirs: ['/a:b', '/c'] }],
  ['lowerdir=/a\\,b,ro', { lowerdirs: ['/a,b'] }],
  ['lowerdir=/a\\\\b', { lowerdirs: ['/a\\b'] }],
  ['lowerdir=/a::/d::/e', { lowerdirs: ['/a'], datadirs: ['/d', '/e'] }],
  ['lowerdir+=/a,lowerdir+=/b,datadir+=/d', { lowerdirs: ['/a', '/b'], datadirs: ['/d'] }],
  ['lowerdir+=/a:b', { lowerdirs: ['/a:b'] }],
  ['lowerdir=/a,lowerdir=/b', { lowerdirs: ['/b'] }],
  [
    'lowerdir=A:B:C,upperdir=U,workdir=W,,volatile',
    { lowerdirs: ['A', 'B', 'C'], upperdir: 'U', workdir: 'W', volatile: true, readOnly: false },
  ],
  [',,lowerdir=/a,', { lowerdirs: ['/a'] }],
  ['lowerdir=/a,upperdir=/u,workdir=/w,ro', { readOnly: true, upperdir: '/u' }],
  ['lowerdir=/a,redirect_dir=off', { redirectDir: 'off' }],
  [
    'lowerdir=/a,metacopy=on,index=off,xino=on,uuid=null',
    { metacopy: true, index: false, xino: 'on', uuid: 'null' },
  ],
  ['lowerdir=/a,userxattr,nfs_export=on', { userxattr: true, nfsExport: true }],
  [
    'lowerdir=/a,uidmapping=0:100000:10:10:0:1,gidmapping=5:6:7',
    {
      uidMapping: [
        { outside: 0, inside: 100000, count: 10 },
        { outside: 10, inside: 0, count: 1 },
      ],
      gidMapping: [{ outside: 5, inside: 6, count: 7 }],
    },
  ],
  ['lowerdir=/a,squash_to_root', { squashUid: 0, squashGid: 0 }],
  ['lowerdir=/a,squash_to_uid=7,squash_to_gid=8', { squashUid: 7, squashGid: 8 }],
  [
    'lowerdir=/a,static_nlink,noacl,fsync=0,noxattrs=1',
    { staticNlink: true, acl: false, fsync: false, xattrs: false },
  ],
  ['lowerdir=/a,ino32', { ino32: true }],
  ['lowerdir=/a,noxattrs=0,fsync,writeback=0', { xattrs: true, fsync: true, writeback: false }],
  ['lowerdir=/a,timeout=0.5', { timeout: 0.5 }],
  ['lowerdir=/a,timeout=1e12', { timeout: 1e9 }],
  ['lowerdir=/a,xattr_permissions=2', { xattrPermissions: 2 }],
  [
    'lowerdir=/a,context="u:object_r:t:s0:c1,c2",ro',
    { context: 'u:object_r:t:s0:c1,c2', readOnly: true },
  ],
  [
    'lowerdir=/a,suid,dev,noexec,noatime',
    { nosuid: false, nodev: false, noexec: true, noatime: true },
  ],
  ['lowerdir=/a,suid,nosuid', { nosuid: true }],
  ['lowerdir=/a', { nosuid: true, nodev: true, noexec: false, defaultPermissions: true }],
  ['lowerdir=/a,allow_root', { allowOther: true }],
  ['lowerdir=/a,fsname=x,subtype=y', { fsname: 'x', subtype: 'y' }],
  ['lowerdir=/a,whiteouts=aufs,backend=kernel', { whiteouts: 'aufs', backend: 'kernel' }],
  [
    'lowerdir=/a,fast_ino=1,threaded=0,clone_fd,max_idle_threads=4,auto_unmount,lazytime',
    { lowerdirs: ['/a'] },
  ],
  ['lowerdir=/a,plugins=', { lowerdirs: ['/a'] }],
  ['lowerdir=//a', { lowerdirs: ['//a'] }],
];

for (const [text, expected] of accepted) {
  test(`accepts ${text}`, () => {
    const options = parse(text);
    const found = Object.fromEntries(
      Object.keys(expected).map((key) => [key, options[key as keyof MountOptions]]),
    );
    assert.deepEqual(found, expected);
  });
}

const refused: readonly (readonly [string, RegExp])[] = [
  ['', /^lowerdir: missing/],
  ['ro', /^lowerdir: missing/],
  ['lowerdir', /^option lowerdir: it needs a value/],
  ['lowerdir=', /^option lowerdir=: an empty name/],
  ['lowerdir=/a:', /an empty name between colons/],
  ['lowerdir=:/a', /an empty name between colons/],
  ['lowerdir=::/a', /an empty name between colons/],
  ['lowerdir=/a::/d:/e', /after "::" only further "::"/],
  ['lowerdir=/a,bogus', /^unknown option: bogus: /],
  ['lowerdir=/a,bogus=1', /^unknown option: bogus: /],
  ['lowerdir=/a,Metacopy=on', /^unknown option: Metacopy: /],
  ['lowerdir=/a,metacopy', /^option metacopy: it needs a value: write metacopy=on\|off/],
  ['lowerdir=/a,metacopy=maybe', /^option metacopy=maybe: must be one of on, off/],
  ['lowerdir=/a,volatile=1', /^option volatile: it takes no value/],
  ['lowerdir=/a,upperdir=/u', /^workdir: missing/],
  ['lowerdir=/a,upperdir=,workdir=/w', /^option upperdir=: must not be empty/],
  ['lowerdir=/a,uidmapping=1:2', /triples/],
  ['lowerdir=/a,uidmapping=1:2:0', /COUNT above 0/],
  ['lowerdir=/a,uidmapping=a:b:c', /numbers/],
  ['lowerdir=/a,gidmapping=4294967290:0:9', /runs past the largest id/],
  ['lowerdir=/a,squash_to_uid=-1', /must be a number/],
  ['lowerdir=/a,squash_to_uid=4294967295', /must be a number/],
  ['lowerdir=/a,timeout=x', /must be a number of seconds/],
  ['lowerdir=/a,timeout=-1', /must be a number of seconds/],
  ['lowerdir=/a,timeout=Infinity', /must be a number of seconds/],
  ['lowerdir=/a,fsync=2', /must be 0 or 1/],
  ['lowerdir=/a,plugins=x.so', /plugins cannot be loaded/],
  ['lowerdir=//plugin/data/path', /asks for a plugin/],
  [
    'lowerdir=/a,upperdir=/u,workdir=/w,metacopy=on,redirect_dir=off',
    /contradicts redirect_dir=off/,
  ],
  ['lowerdir=/a,metacopy=on,nfs_export=on', /contradicts metacopy=on/],
  ['lowerdir=/a,raw,nfs_export=on', /^nfs_export=on: contradicts raw/],
  ['lowerdir=/a,raw,ino32', /^ino32: contradicts raw/],
  ['lowerdir=/a,upperdir=/u,workdir=/w,index=off,nfs_export=on', /contradicts index=off/],
  ['lowerdir=/a,verity=require', /needs metacopy=on/],
  [
    `lowerdir=${Array.from({ length: 501 }, (_, i) => `/l${i}`).join(':')}`,
    /501 layers: at most 500/,
  ],
  ['lowerdir=/a,x-systemd.automount', /^unknown option: x-systemd.automount/],
];

for (const [text, message] of refused) {
  test(`refuses ${text.slice(0, 70)}`, () => {
    assert.throws(
      () => parse(text),
      (error) =>
        error instanceof MountError && error.kind === 'option' && message.test(error.message),
    );
  });
}

test('mount(8) and fstab options are passed over by the mount helper only', () => {
  const fstab = 'lowerdir=/a,noauto,user,_netdev,nofail,x-systemd.automount,comment=hello,defaults';
  assert.deepEqual(parse(fstab, { defaults: '', fstab: true }).lowerdirs, ['/a']);
  assert.throws(() => parse(fstab), MountError);
});

test('fuse-overlayfs passes over stray colons', () => {
  const loose = { defaults: '', looseColons: true };
  assert.deepEqual(parse('lowerdir=:/a:/b:', loose).lowerdirs, ['/a', '/b']);
  assert.deepEqual(parse('lowerdir=/a\\:', loose).lowerdirs, ['/a:']);
});

test('options of several -o add up, and the defaults come first', () => {
  const options = parseOptions(['lowerdir=/a', 'suid', 'lowerdir+=/b'], {
    defaults: 'nosuid,timeout=3',
  });
  assert.deepEqual(options.lowerdirs, ['/a', '/b']);
  assert.equal(options.nosuid, false);
  assert.equal(options.timeout, 3);
});

test('every documented option has a name of its own and a help text', () => {
  assert.equal(new Set(OPTIONS.map((o) => o.name)).size, OPTIONS.length);
  for (const option of OPTIONS) assert.match(option.help, /^\S.*\.$|^\S/);
});

/** Names as they occur, with everything that has a meaning in an option list. */
const path = fc.string({
  unit: fc.constantFrom('a', 'é', '/', ':', ',', '\\', '"', '=', ' ', '\n'),
  minLength: 1,
});

test('property: escaped layers and paths come back as they were', () => {
  fc.assert(
    fc.property(
      fc.array(path, { minLength: 1, maxLength: 5 }),
      fc.array(path, { maxLength: 3 }),
      path,
      (lowers, data, upper) => {
        const list = joinLayers(lowers, data);
        const text = `lowerdir=${list},upperdir=${escapePath(upper)}`;
        const [first, second] = splitOptions(text);
        assert.deepEqual(splitLayers(first?.value ?? ''), { lowers, data });
        assert.equal(unescapeValue(second?.value ?? ''), upper);
      },
    ),
  );
});

test('property: whatever the text, there is a result or a MountError of one line', () => {
  const word = fc.oneof(
    fc.constantFrom(...OPTIONS.map((o) => o.name), 'lowerdir=/a', 'upperdir=/u', 'workdir=/w', ''),
    fc.string(),
  );
  const text = fc.array(fc.tuple(word, fc.constantFrom('', '=', '=on', '=1', '=/x', '=::')), {
    maxLength: 6,
  });
  fc.assert(
    fc.property(text, (words) => {
      try {
        const options = parse(words.map(([a, b]) => a + b).join(','));
        assert.ok(options.lowerdirs.length > 0);
      } catch (error) {
        assert.ok(error instanceof MountError, String(error));
        assert.equal(error.kind, 'option');
      }
    }),
    { numRuns: 500 },
  );
});
