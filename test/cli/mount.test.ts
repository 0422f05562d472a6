// The whole chain on real directories: mount, look, change, why, status, unmount, by all three command lines.
// Under test: src/cli/ and src/stack/, with src/supervisor/ and the overlay below them.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountAt } from '../../src/linux/mountinfo.js';
import type { WhyAnswer } from '../../src/ops/why.js';
import type { MountReport } from '../../src/stack/status.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn, MAIN } from './cli.js';

const skip = requires({ features: ['fuse'] });
const skipRoot = requires({ root: true, features: ['fuse', 'overlayfs'] });

interface Place extends Cli {
  at(path: string): string;
  /** `mount`, with success. */
  mount(...args: string[]): void;
  /** `umount`, with success. @returns false when another mount namespace on this machine still holds the mount. */
  umount(...args: string[]): boolean;
}

const STACK = 'lowerdir=top:base,upperdir=upper,workdir=work';

/** Two lowers, an upper, a mount point; unmounted at the end whatever happens. */
function place(t: { after(fn: () => void): void }): Place {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const name of ['base/dir/deep', 'top/dir', 'upper', 'work', 'm'])
    mkdirSync(at(name), { recursive: true });
  writeFileSync(at('base/only-base'), 'base');
  writeFileSync(at('base/both'), 'base');
  writeFileSync(at('top/both'), 'top');
  writeFileSync(at('base/dir/b'), 'b');
  writeFileSync(at('top/dir/t'), 't');
  const cli = cliIn(folder);
  const succeed = (...args: string[]): void => {
    const ran = cli.run(...args);
    assert.equal(ran.code, 0, `varve ${args.join(' ')}: ${ran.err}`);
  };
  return {
    ...cli,
    at,
    mount: (...args) => succeed('mount', '--backend=fuse', ...args),
    umount: (...args) => {
      const ran = cli.run('umount', '--json', ...args);
      assert.equal(ran.code, 0, `varve umount ${args.join(' ')}: ${ran.err}${ran.out}`);
      return !ran.out.includes('heldElsewhere');
    },
  };
}

const json = <T>(cli: Cli, ...args: string[]): T => JSON.parse(cli.run(...args, '--json').out) as T;

test('a small file of a lower is read without a READ request', { skip }, (t) => {
  const p = place(t);
  const big = 'b'.repeat(40_000);
  writeFileSync(p.at('base/empty'), '');
  writeFileSync(p.at('base/page'), 'p'.repeat(4096));
  mkdirSync(p.at('base/small'));
  for (let i = 0; i < 20; i++) writeFileSync(p.at(`base/small/${i}`), `small ${i}`);
  writeFileSync(p.at('base/big'), big);
  p.mount('-o', STACK, 'm');
  const reads = (): number => json<MountReport>(p, 'status', 'm').counters?.opcodes['READ'] ?? 0;
  assert.equal(readFileSync(p.at('m/both'), 'utf8'), 'top');
  assert.equal(readFileSync(p.at('m/page'), 'utf8'), 'p'.repeat(4096));
  for (let i = 0; i < 20; i++) {
    // Into the layer's cache: what is not there is left to a READ.
    readFileSync(p.at(`base/small/${i}`));
    assert.equal(readFileSync(p.at(`m/small/${i}`), 'utf8'), `small ${i}`);
  }
  const before = reads();
  // Whoever drops the machine's caches meanwhile makes some necessary.
  assert.ok(before < 10, `${before} requests to read 22 files`);
  assert.equal(readFileSync(p.at('m/empty'), 'utf8'), '');
  assert.equal(readFileSync(p.at('m/big'), 'utf8'), big);
  assert.ok(reads() > before, 'the rest of a larger file is asked for');
  // What the kernel was given is the old content once the file is written.
  writeFileSync(p.at('m/page'), 'new', { flag: 'r+' });
  assert.equal(readFileSync(p.at('m/page'), 'utf8'), `new${'p'.repeat(4093)}`);
  writeFileSync(p.at('m/both'), 'other');
  assert.equal(readFileSync(p.at('m/both'), 'utf8'), 'other');
  assert.equal(readFileSync(p.at('top/both'), 'utf8'), 'top');
  p.umount('m');
});

test('mount, change, ask, unmount', { skip }, (t) => {
  const p = place(t);
  const mounted = p.run('mount', '--backend=fuse', '-o', `${STACK},,`, 'm');
  assert.match(
    mounted.err,
    /^varve: \/.*\/m is served by varve's server \(process \d+\): as asked\n$/,
  );
  assert.equal(mounted.out, '');
  const entry = mountAt(p.at('m'));
  assert.equal(entry?.type, 'fuse.varve');
  assert.equal(entry?.source, 'varve');
  assert.match(entry?.options ?? '', /nosuid,nodev/);
  assert.deepEqual(readdirSync(p.at('m')).sort(), ['both', 'dir', 'only-base']);
  assert.equal(readFileSync(p.at('m/both'), 'utf8'), 'top');

  writeFileSync(p.at('m/only-base'), 'changed');
  writeFileSync(p.at('m/new'), 'new');
  rmSync(p.at('m/both'));
  renameSync(p.at('m/dir'), p.at('m/moved'));

  const why = (path: string): WhyAnswer => json<WhyAnswer>(p, 'why', path);
  assert.equal(why('m/only-base').owner?.role, 'upper');
  assert.deepEqual(
    why('m/only-base').layers.map((l) => [l.role, l.effect]),
    [
      ['upper', 'owner'],
      ['lower 1', 'absent'],
      ['lower 2', 'hidden'],
    ],
  );
  assert.deepEqual(
    why('m/both').layers.map((l) => [l.role, l.effect]),
    [
      ['upper', 'whiteout'],
      ['lower 1', 'hidden'],
      ['lower 2', 'hidden'],
    ],
  );
  assert.equal(p.run('why', 'm/both').code, 6);
  assert.match(p.run('why', 'm/both').out, /^m\/both: deleted, by a whiteout in upper\n/);
  assert.deepEqual(why('m/moved/b').owner, { role: 'lower 2', path: p.at('base/dir/b') });
  assert.match(why('m/moved/b').way[0]?.mark ?? '', /^redirect to/);
  assert.equal(why('m').layers[0]?.effect, 'owner');

  const report = json<MountReport>(p, 'status', 'm');
  assert.equal(report.state, 'mounted');
  assert.deepEqual(report.layers?.lowerdirs, [p.at('top'), p.at('base')]);
  assert.ok((report.counters?.requests ?? 0) > 5);
  assert.ok((report.counters?.opcodes['RENAME'] ?? report.counters?.opcodes['RENAME2'] ?? 0) > 0);
  assert.ok((report.memory?.pss ?? 0) > 1e6);
  assert.match(p.run('status').out, new RegExp(`${p.at('m')} +fuse +mounted +2\\+1 `));

  const unmounted = p.run('umount', 'm');
  assert.equal(unmounted.code, 0);
  assert.match(unmounted.err, /^varve: \/.*\/m is unmounted/);
  assert.equal(mountAt(p.at('m')), undefined);
  if (!unmounted.err.includes('another mount namespace')) {
    assert.equal(existsSync(`/proc/${report.pid}/fd/0`), false, 'the server is gone');
  }
  assert.equal(readFileSync(p.at('upper/only-base'), 'utf8'), 'changed');
  assert.ok(
    lstatSync(p.at('upper/both')).isCharacterDevice() || lstatSync(p.at('upper/both')).size === 0,
  );
  assert.equal(readFileSync(p.at('base/only-base'), 'utf8'), 'base');
});

test('a mount point may hide one of its own layers', { skip }, (t) => {
  const p = place(t);
  p.mount('-q', '-o', STACK, 'base');
  assert.deepEqual(readdirSync(p.at('base')).sort(), ['both', 'dir', 'only-base']);
  writeFileSync(p.at('base/new'), 'x');
  p.umount('-q', 'base');
  assert.equal(existsSync(p.at('base/new')), false);
  assert.equal(existsSync(p.at('upper/new')), true);
});

test('an upper that is in use is refused, and free again after the unmount', { skip }, (t) => {
  const p = place(t);
  mkdirSync(p.at('m2'));
  p.mount('-q', '-o', STACK, 'm');
  const second = p.run('mount', '-o', STACK, 'm2');
  assert.equal(second.code, 5);
  assert.match(second.err, /^varve: (upperdir|workdir): .*: in use by another mount: unmount that/);
  assert.equal(mountAt(p.at('m2')), undefined);
  const over = p.run('mount', '-o', 'lowerdir=base', 'm');
  assert.deepEqual(
    [over.code, over.err],
    [5, `varve: mount point: ${p.at('m')}: already mounted: unmount it first\n`],
  );
  if (!p.umount('m')) return;
  p.mount('-q', '-o', STACK, 'm2');
  p.umount('m2');
});

test('a busy mount stays, with code 5, and -l detaches it', { skip }, async (t) => {
  const p = place(t);
  p.mount('-q', '-o', STACK, 'm');
  const user = spawn('sleep', ['60'], { cwd: p.at('m') });
  t.after(() => user.kill());
  const refused = p.run('umount', 'm');
  assert.equal(refused.code, 5);
  assert.match(refused.err, /in use: close what is open there/);
  assert.notEqual(mountAt(p.at('m')), undefined);
  p.umount('-l', 'm');
  assert.equal(mountAt(p.at('m')), undefined);
});

test('umount -f ends a server that does not answer', { skip }, (t) => {
  const p = place(t);
  p.mount('-q', '-o', STACK, 'm');
  const { pid } = json<MountReport>(p, 'status', 'm');
  process.kill(pid as number, 'SIGSTOP');
  p.umount('-f', 'm');
  assert.equal(mountAt(p.at('m')), undefined);
});

test('options reach the mount table', { skip: skipRoot }, (t) => {
  const p = place(t);
  p.mount('-q', '-o', `${STACK},fsname=a b,subtype=quarry,suid,dev,noexec,noatime,ro`, 'm');
  const entry = mountAt(p.at('m'));
  assert.equal(entry?.type, 'fuse.quarry');
  assert.equal(entry?.source, 'a b');
  assert.equal(entry?.options, 'ro,noexec,noatime');
  assert.match(entry?.superOptions ?? '', /default_permissions,allow_other/);
  p.umount('m');
});

test('backend auto takes the kernel for a read-only stack, and status knows it', {
  skip: skipRoot,
}, (t) => {
  const p = place(t);
  for (const lowerdir of ['top:base', 'base']) {
    const ran = p.run('mount', '-o', `lowerdir=${lowerdir}`, 'm');
    assert.match(ran.err, /served by the kernel's overlayfs: read-only and on one filesystem\n$/);
    assert.equal(mountAt(p.at('m'))?.type, 'overlay');
    const report = json<MountReport>(p, 'status', 'm');
    assert.equal(report.backend, 'kernel');
    assert.equal(report.layers?.lowerdirs[0], p.at(lowerdir.split(':')[0] as string));
    assert.equal(json<WhyAnswer>(p, 'why', 'm/only-base').owner?.path, p.at('base/only-base'));
    p.umount('-q', 'm');
  }
  p.mount('-q', '-o', 'lowerdir=top:base', 'm');
  assert.equal(mountAt(p.at('m'))?.type, 'fuse.varve');
  assert.throws(() => writeFileSync(p.at('m/x'), ''), { code: 'EROFS' });
  p.umount('-q', 'm');
});

/** Starts a command line that stays; resolves when the mount is there. */
async function stay(
  p: Place,
  ...args: string[]
): Promise<{ child: ChildProcess; text: () => string; end: Promise<number | null> }> {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: p.folder, env: p.env });
  let text = '';
  child.stderr.on('data', (chunk) => {
    text += chunk;
  });
  // Not its exit: what it has said last may not have come then.
  const end = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  for (let i = 0; i < 2400 && mountAt(p.at('m')) === undefined; i++) await sleep(25);
  readdirSync(p.at('m'));
  return { child, text: () => text, end };
}

test('-f stays until the mount is unmounted elsewhere', { skip }, async (t) => {
  const p = place(t);
  const { end } = await stay(p, 'mount', '--backend=fuse', '-f', '-o', STACK, 'm');
  p.umount('-q', 'm');
  assert.equal(await end, 0);
});

test('-f unmounts on SIGINT; --trace shows requests', { skip }, async (t) => {
  const p = place(t);
  const { child, end, text } = await stay(p, 'mount', '-f', '--trace', '-o', STACK, 'm');
  readFileSync(p.at('m/both'));
  child.kill('SIGINT');
  assert.equal(await end, 0);
  assert.equal(mountAt(p.at('m')), undefined);
  assert.match(text(), /-> \d+ OPEN node=\d+ /);
});

test('the command line of fuse-overlayfs', { skip }, (t) => {
  const p = place(t);
  symlinkSync('top', p.at('link'));
  mkdirSync(p.at('empty'));
  writeFileSync(p.at('top/.wh.only-base'), '');
  const options = 'lowerdir=link:empty:base,upperdir=upper,workdir=work,,volatile';
  const ran = p.run('fuse-overlayfs', '-o', options, 'm');
  assert.deepEqual([ran.code, ran.out, ran.err], [0, '', '']);
  assert.deepEqual(readdirSync(p.at('m')).sort(), ['both', 'dir']);
  assert.match(p.run('why', 'm/only-base').out, /deleted, by a whiteout in lower 1/);
  p.umount('-q', 'm');
});

test('mount -t fuse.varve, through the helper', { skip: skipRoot }, (t) => {
  const p = place(t);
  const ran = p.run('mount.fuse', 'stone', 'm', '-n', '-s', '-o', `rw,_netdev,x-quarry=1,${STACK}`);
  assert.deepEqual([ran.code, ran.out, ran.err], [0, '', '']);
  assert.equal(mountAt(p.at('m'))?.source, 'stone');
  spawnSync('umount', [p.at('m')]);
  assert.equal(mountAt(p.at('m')), undefined);
});

test('in a user namespace, without fusermount3', {
  skip: requires({ features: ['fuse', 'userns'] }),
}, (t) => {
  const p = place(t);
  const script = `
    set -e
    varve() { "$NODE" "$MAIN" "$@"; }
    varve mount -q -o ${STACK} m
    echo changed > m/only-base
    varve why m/only-base
    varve umount -q m
    cat upper/only-base
  `;
  const ran = spawnSync('unshare', ['-Urm', 'bash', '-c', script], {
    cwd: p.folder,
    env: { ...p.env, NODE: process.execPath, MAIN, PATH: '/usr/bin:/bin' },
    encoding: 'utf8',
  });
  assert.equal(ran.status, 0, ran.stderr);
  assert.match(ran.stdout, /^m\/only-base: from upper, .*\n/);
  assert.match(ran.stdout, /changed\n$/);
});

test('the demo shows everything and leaves nothing', { skip }, (t) => {
  const p = place(t);
  mkdirSync(p.at('tmp'));
  p.env['TMPDIR'] = p.at('tmp');
  const ran = p.run('demo');
  assert.equal(ran.code, 0, ran.err + ran.out);
  assert.match(ran.out, /union\/etc\/motd: deleted, by a whiteout in upper/);
  assert.match(ran.out, /base and patch: every byte unchanged\./);
  assert.deepEqual(readdirSync(p.at('tmp')), []);
});

test('the doctor names features, and what is done without', { skip }, (t) => {
  const p = place(t);
  const report = json<{
    features: { name: string; verdict: string; without?: string }[];
    directories: { features: unknown[] }[];
  }>(p, 'doctor', p.folder);
  assert.ok(report.features.some((f) => f.name === 'FUSE protocol' && f.verdict === 'yes'));
  for (const feature of report.features) {
    if (feature.verdict !== 'yes') assert.ok(feature.without, feature.name);
  }
  assert.equal(report.directories.length, 1);
  assert.deepEqual(
    readdirSync(p.folder).filter((name) => name.includes('doctor')),
    [],
  );
  assert.match(p.run('doctor').out, /^Linux \d.*\n\n {2}yes {2}FUSE mount/);
});
