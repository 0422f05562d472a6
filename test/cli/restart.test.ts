// Servers of real stacks that are killed, crash and are reloaded, as the command line shows it.
// Under test: src/cli/{status,reload,umount}.ts and stack/server.ts as a successor; test/supervisor has the finer points.
// Words and exit codes: docs/restart.md.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountAt } from '../../src/linux/mountinfo.js';
import type { MountReport } from '../../src/stack/status.js';
import { FAILURE_LIMIT } from '../../src/supervisor/failures.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn } from './cli.js';

const skip = requires({ features: ['fuse', 'resend'] });

interface Place extends Cli {
  at(path: string): string;
  status(): MountReport;
  /** Sends the server a signal and waits for its successor, or for the end. */
  signal(name: NodeJS.Signals): Promise<MountReport>;
}

function place(t: { after(fn: () => void): void }): Place {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const name of ['lower/dir', 'upper', 'work', 'm']) mkdirSync(at(name), { recursive: true });
  writeFileSync(at('lower/file'), 'lower');
  writeFileSync(at('lower/dir/other'), 'other');
  const cli = cliIn(folder);
  const status = (): MountReport => JSON.parse(cli.run('status', '--json', 'm').out) as MountReport;
  t.after(() => {
    if (mountAt(at('m')) !== undefined) cli.run('umount', '-f', 'm');
  });
  return {
    ...cli,
    at,
    status,
    signal: async (name) => {
      const { serverPid, restarts } = status();
      process.kill(serverPid as number, name);
      for (let i = 0; i < 200; i++) {
        const now = status();
        if (now.state === 'failed' || now.restarts !== restarts) {
          if (now.state === 'failed' || now.lastRestart?.stallMilliseconds !== undefined)
            return now;
        }
        await sleep(20);
      }
      return assert.fail('no successor');
    },
  };
}

function succeed(p: Cli, ...args: string[]): string {
  const ran = p.run(...args);
  assert.equal(ran.code, 0, `varve ${args.join(' ')}: ${ran.err}`);
  return ran.err;
}

const STACK = ['-o', 'lowerdir=lower,upperdir=upper,workdir=work'];

test('status tells who serves, who replaces, how often and why', { skip }, async (t) => {
  const p = place(t);
  succeed(p, 'mount', '--backend=fuse', ...STACK, 'm');
  const first = p.status();
  assert.equal(first.serverPid, first.pid);
  assert.equal(first.restarts, 0);
  assert.ok(statSync(`/proc/${first.supervisorPid}`).isDirectory());
  assert.match(
    p.run('status', 'm').out,
    new RegExp(`^ {2}supervisor ${first.supervisorPid}$`, 'm'),
  );
  await p.signal('SIGKILL');
  const { restarts, lastRestart, supervisorPid } = await p.signal('SIGKILL');
  assert.deepEqual([restarts, supervisorPid], [2, first.supervisorPid]);
  assert.equal(lastRestart?.reason, 'it was ended by SIGKILL');
  assert.match(
    p.run('status', 'm').out,
    /^ {2}supervisor \d+; 2 restarts, the last .* ago \(it was ended by SIGKILL\), \d+ ms without a server$/m,
  );
  succeed(p, 'umount', 'm');
});

test('a stack goes on as it was, also where its folders were renamed or covered', {
  skip,
}, async (t) => {
  const p = place(t);
  // The mount point covers the lower; nobody can name it any more.
  const layers = 'lowerdir=m/lower,upperdir=upper,workdir=work';
  mkdirSync(p.at('m/lower/dir'), { recursive: true });
  writeFileSync(p.at('m/lower/file'), 'lower');
  writeFileSync(p.at('m/lower/dir/other'), 'other');
  succeed(p, 'mount', '--backend=fuse', '-o', layers, 'm');
  const { dev, ino } = statSync(p.at('m/file'));
  const open = openSync(p.at('m/file'), 'r+');
  writeSync(open, 'UPPER');
  renameSync(p.at('upper'), p.at('renamed'));
  const before = p.status().counters?.requests ?? 0;
  await p.signal('SIGKILL');
  assert.equal(readFileSync(p.at('m/file'), 'utf8'), 'UPPER');
  assert.equal(readFileSync(p.at('m/dir/other'), 'utf8'), 'other');
  assert.deepEqual([fstatSync(open).dev, fstatSync(open).ino], [dev, ino]);
  writeSync(open, '!', 5);
  closeSync(open);
  assert.equal(readFileSync(p.at('renamed/file'), 'utf8'), 'UPPER!');
  writeFileSync(p.at('m/new'), 'new');
  assert.equal(readFileSync(p.at('renamed/new'), 'utf8'), 'new');
  assert.ok((p.status().counters?.requests ?? 0) > before, 'counters go on');
  renameSync(p.at('renamed'), p.at('upper'));
  // The claim was never given up.
  mkdirSync(p.at('m2'));
  const second = p.run(
    'mount',
    '--backend=fuse',
    '-o',
    'lowerdir=lower,upperdir=upper,workdir=work',
    'm2',
  );
  assert.equal(second.code, 5, second.err);
  succeed(p, 'umount', 'm');
  succeed(p, 'mount', '--backend=fuse', ...STACK, 'm2');
  succeed(p, 'umount', 'm2');
});

test('a volatile mount is replaced under its own mark', { skip }, async (t) => {
  const p = place(t);
  succeed(p, 'mount', '--backend=fuse', '-o', `${STACK[1]},volatile`, 'm');
  writeFileSync(p.at('m/file'), 'changed');
  const { state } = await p.signal('SIGKILL');
  assert.equal(state, 'mounted');
  assert.equal(readFileSync(p.at('m/file'), 'utf8'), 'changed');
  succeed(p, 'umount', 'm');
});

test('varve reload: by name, all, with a new process and the same mount', { skip }, (t) => {
  const p = place(t);
  succeed(p, 'mount', '--backend=fuse', ...STACK, 'm');
  const { dev } = statSync(p.at('m'));
  const before = p.status();
  assert.match(
    succeed(p, 'reload', 'm'),
    /^varve: \/.*\/m is served by process \d+ now, after \d+ ms\n$/,
  );
  const after = p.status();
  assert.notEqual(after.serverPid, before.serverPid);
  assert.equal(after.lastRestart?.reason, 'reload');
  const said = JSON.parse(p.run('reload', '--all', '--json').out);
  assert.equal(said.length, 1);
  assert.deepEqual(Object.keys(said[0]).sort(), ['mountpoint', 'serverPid', 'stallMilliseconds']);
  assert.equal(p.status().serverPid, said[0].serverPid);
  assert.equal(statSync(p.at('m')).dev, dev);
  assert.equal(readFileSync(p.at('m/dir/other'), 'utf8'), 'other');

  assert.equal(p.run('reload').code, 2);
  assert.equal(p.run('reload', '--all', 'm').code, 2);
  const none = p.run('reload', 'lower');
  assert.equal(none.code, 6);
  assert.match(none.err, /lower: not a varve mount: see `varve status`\n$/);
  process.kill(p.status().supervisorPid as number, 'SIGKILL');
  for (let i = 0; i < 200 && p.status().state !== 'lost'; i++) spawnSync('sleep', ['0.02']);
  assert.match(p.run('status', 'm').out, /its supervisor is gone: nobody replaces its server/);
  assert.equal(readFileSync(p.at('m/dir/other'), 'utf8'), 'other');
  const lost = p.run('reload', 'm');
  assert.equal(lost.code, 7);
  assert.match(lost.err, /its supervisor is gone.*unmount, then mount again\n$/);
  succeed(p, 'umount', 'm');
});

test('a mount of the kernel has nothing to reload', {
  skip: requires({ root: true, features: ['fuse', 'overlayfs'] }),
}, (t) => {
  const p = place(t);
  succeed(p, 'mount', '--backend=kernel', '-o', 'lowerdir=lower:upper', 'm');
  assert.match(succeed(p, 'reload', 'm'), /is served by the kernel: nothing to reload\n$/);
  succeed(p, 'umount', 'm');
});

test('servers that crash again and again: EIO, words, another attempt, and umount', {
  skip,
}, async (t) => {
  const p = place(t);
  const crash = async (): Promise<MountReport> => {
    let report = p.status();
    // How the first server ended, which is the command line's child, nobody knows.
    for (let i = 0; i <= FAILURE_LIMIT && report.state === 'mounted'; i++) {
      report = await p.signal('SIGSEGV');
    }
    return report;
  };
  succeed(p, 'mount', '--backend=fuse', ...STACK, 'm');
  const report = await crash();
  assert.equal(report.state, 'failed');
  assert.match(
    report.why ?? '',
    /5 servers ended within 60 s, the last because it was ended by SIGSEGV/,
  );
  assert.throws(() => readFileSync(p.at('m/file')), /EIO/);
  assert.match(p.run('status').out, /every request gets EIO: "varve reload .*" tries again/);
  succeed(p, 'reload', 'm');
  assert.equal(p.status().state, 'mounted');
  assert.equal(readFileSync(p.at('m/file'), 'utf8'), 'lower');
  assert.equal((await crash()).state, 'failed');
  succeed(p, 'umount', 'm');
  assert.equal(mountAt(p.at('m')), undefined);
  assert.equal(p.run('status', 'm').code, 6);
  // And the upper is free again.
  succeed(p, 'mount', '--backend=fuse', ...STACK, 'm');
  succeed(p, 'umount', 'm');
});

test('a mount whose connection was aborted is detached; umount takes back its record', {
  skip: requires({ root: true, features: ['fuse', 'fusectl'] }),
}, async (t) => {
  const p = place(t);
  succeed(p, 'mount', '--backend=fuse', ...STACK, 'm');
  const device = mountAt(p.at('m'))?.device.replace(/^0:/, '');
  writeFileSync(`/sys/fs/fuse/connections/${device}/abort`, '1');
  for (let i = 0; i < 2400 && mountAt(p.at('m')) !== undefined; i++) await sleep(25);
  const report = p.status();
  assert.deepEqual([report.state, report.serverPid], ['failed', undefined]);
  assert.match(report.why ?? '', /: its connection was aborted$/);
  succeed(p, 'umount', 'm');
  assert.equal(p.run('status', 'm').code, 6);
  assert.equal(p.run('umount', 'm').code, 6);
});

test('images are served on, and a read-only stack of them', { skip }, async (t) => {
  const p = place(t);
  succeed(p, 'image', 'build', '-q', '-o', 'image.erofs', 'lower');
  for (const args of [
    ['image', 'mount', 'image.erofs', 'm'],
    ['mount', '--backend=fuse', '-o', 'lowerdir=image.erofs', 'm'],
  ]) {
    succeed(p, ...args);
    const open = openSync(p.at('m/file'), 'r');
    renameSync(p.at('image.erofs'), p.at('renamed'));
    const { state } = await p.signal('SIGKILL');
    assert.equal(state, 'mounted', args.join(' '));
    assert.equal(readFileSync(p.at('m/dir/other'), 'utf8'), 'other');
    assert.equal(readFileSync(open, 'utf8'), 'lower');
    closeSync(open);
    renameSync(p.at('renamed'), p.at('image.erofs'));
    succeed(p, 'umount', 'm');
  }
  rmSync(p.at('image.erofs'));
});
