// Servers that are killed, fail and are replaced under a live mount, with programs at work on it.
// Under test: src/supervisor/mount.ts, src/fuse/succession.ts, src/vfs/journal.ts. The filesystem is folderfs.ts.
// What programs may notice is docs/restart.md's table; here it is nothing, or the error that is said.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountAt } from '../../src/linux/mountinfo.js';
import type { Supervisor } from '../../src/supervisor/client.js';
import { FAILURE_LIMIT } from '../../src/supervisor/failures.js';
import type { MountStatus, Reply } from '../../src/supervisor/protocol.js';
import { LAYOUT_VERSION } from '../../src/vfs/layout.js';
import { requires } from '../support/requires.js';
import { removeWhole } from '../support/temp.js';
import type { Trouble } from './folderfs.js';
import { gone, type Place, place, unmount, until } from './place.js';
import type { FolderSpec } from './serve-folder.js';

const skip = requires({ features: ['fuse', 'resend'] });

interface Served {
  readonly mnt: string;
  /** What is served. */
  readonly folder: string;
  readonly supervisor: Supervisor;
  readonly supervisorPid: number;
  readonly program: readonly string[];
  readonly runtime: string;
  readonly ask: Place['ask'];
  status(): Promise<MountStatus>;
  /** Kills the server and waits for a successor. */
  kill(): Promise<MountStatus>;
  /** The server shall die so. */
  trouble(trouble: Trouble): void;
}

async function serve(
  t: { after(fn: () => void | Promise<void>): void },
  spec: Omit<FolderSpec, 'folder'> = {},
): Promise<Served> {
  const at = place(t, 'serve-folder');
  const folder = join(dirname(at.runtime), 'folder');
  mkdirSync(folder);
  writeFileSync(join(folder, 'file'), 'text');
  const request = at.request('m', { folder, ...spec });
  const { reply, supervisor } = await at.ask(request);
  assert.equal(reply.error, undefined);
  const { mountpoint } = request.mount;
  const status = async (): Promise<MountStatus> => {
    const { mounts } = await supervisor.ask({ op: 'status', mountpoint });
    return mounts?.[0] as MountStatus;
  };
  t.after(async () => {
    const left = await supervisor.ask({ op: 'umount', mountpoint, force: true }).catch(() => {});
    if (left?.error === undefined) await until('unmounted', () => !mountAt(mountpoint));
  });
  return {
    mnt: mountpoint,
    folder,
    supervisor,
    supervisorPid: reply.supervisor as number,
    program: request.program,
    runtime: at.runtime,
    ask: at.ask,
    status,
    kill: async () => {
      const { pid, restarts } = await status();
      process.kill(pid, 'SIGKILL');
      return replaced(status, restarts + 1);
    },
    trouble: (trouble) => writeFileSync(`${folder}.trouble`, JSON.stringify(trouble)),
  };
}

/** Waits until so many servers were replaced and the last one serves. */
async function replaced(
  status: () => Promise<MountStatus>,
  restarts: number,
): Promise<MountStatus> {
  let last: MountStatus | undefined;
  await until(`${restarts} restarts`, async () => {
    last = await status();
    return last.restarts >= restarts && last.lastRestart?.stallMilliseconds !== undefined;
  });
  return last as MountStatus;
}

/** Runs a program that may hang; the error it prints, or nothing. */
function attempt(...words: string[]): string {
  const run = spawnSync('timeout', ['-s', 'KILL', '60', ...words], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (run.status !== 0 && run.stderr === '') return `exit ${run.status}`;
  return run.status === 0 ? '' : run.stderr.trim();
}

/** A program that works on the mount until told to stop; then what went wrong, how often it went round. */
function client(code: string, mnt: string) {
  const text = `
    const fs = require('node:fs');
    const mnt = ${JSON.stringify(mnt)};
    let rounds = 0, longest = 0, over = false;
    const errors = [];
    process.stdin.on('data', () => { over = true; });
    const turn = () => {
      const begun = performance.now();
      try { ${code} } catch (error) { errors.push(error.message); }
      longest = Math.max(longest, performance.now() - begun);
      rounds++;
      if (!over) return setImmediate(turn);
      console.log(JSON.stringify({ rounds, longest, errors }));
      process.exit(0);
    };
    turn();`;
  const child = spawn(process.execPath, ['-e', text], { stdio: ['pipe', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  return async (): Promise<{ rounds: number; longest: number; errors: string[] }> => {
    child.stdin.write('\n');
    await once(child, 'close');
    return JSON.parse(out);
  };
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);

test('what somebody removes of the runtime folder comes back, and a server is replaced meanwhile', {
  skip,
}, async (t) => {
  const { mnt, runtime, ask, supervisorPid, kill } = await serve(t);
  for (const whole of [false, true]) {
    if (whole) removeWhole(runtime);
    else for (const name of readdirSync(runtime)) rmSync(join(runtime, name));
    // Its log has no folder now, for a moment.
    await kill();
    assert.equal(readFileSync(join(mnt, 'file'), 'utf8'), 'text');
    const { reply } = await ask({ op: 'list' });
    assert.equal(reply.supervisor, supervisorPid);
    assert.deepEqual(
      reply.mounts?.map(({ mountpoint }) => mountpoint),
      [mnt],
    );
  }
});

test('a killed server is replaced: names, open files and st_dev stay', { skip }, async (t) => {
  const at = await serve(t);
  const before = await at.status();
  assert.deepEqual([before.restarts, before.lastRestart], [0, undefined]);
  const fd = openSync(join(at.mnt, 'file'), 'r+');
  const { dev, ino } = fstatSync(fd);
  const after = await at.kill();
  assert.equal(after.state, 'mounted');
  assert.notEqual(after.pid, before.pid);
  assert.equal(after.restarts, 1);
  // The first server is the command line's child, so nobody is told how it ended.
  assert.match(after.lastRestart?.reason ?? '', /^it (ended|was ended by SIGKILL)$/);
  assert.ok(Math.abs(Date.parse(after.lastRestart?.at ?? '') - Date.now()) < 60_000);
  assert.ok((after.lastRestart?.stallMilliseconds ?? -1) >= 0);
  writeSync(fd, 'TEXT', 0);
  fsyncSync(fd);
  assert.equal(readFileSync(join(at.folder, 'file'), 'utf8'), 'TEXT');
  assert.deepEqual([fstatSync(fd).dev, statSync(join(at.mnt, 'file')).ino], [dev, ino]);
  // And so is the successor, by the supervisor's own child.
  const third = await at.kill();
  assert.equal(third.restarts, 2);
  assert.equal(third.lastRestart?.reason, 'it was ended by SIGKILL');
  closeSync(fd);
  assert.equal(readFileSync(join(at.mnt, 'file'), 'utf8'), 'TEXT');
});

test('a request is done once, wherever its server dies, and once more if the successor dies there too', {
  skip,
}, async (t) => {
  const at = await serve(t);
  const path = join(at.mnt, 'x');
  const made = (): boolean => existsSync(join(at.folder, 'x'));
  const rows = [
    { op: 'lookup', words: ['stat', join(at.mnt, 'file')], made: false },
    { op: 'mkdir', words: ['mkdir', path], made: true },
    { op: 'rmdir', words: ['rmdir', path], made: false },
    { op: 'create', words: ['sh', '-c', `set -C; : > ${path}`], made: true },
    { op: 'unlink', words: ['rm', path], made: false },
  ] as const;
  let restarts = 0;
  for (const point of ['started', 'publishing', 'published', 'replying'] as const) {
    for (const times of [1, 2]) {
      for (const row of rows) {
        if (row.op === 'lookup' && point !== 'started' && point !== 'replying') continue;
        const what = `${row.op} ${point} ${times}`;
        at.trouble({ op: row.op, at: point, times });
        assert.equal(attempt(...row.words), '', what);
        assert.equal(made(), row.made, what);
        // Died with the reply formed, the next one has it and does nothing again.
        restarts += point === 'replying' ? 1 : times;
        assert.equal((await at.status()).restarts, restarts, what);
        rmSync(`${at.folder}.trouble`);
      }
    }
  }
  // Not because such errors are swallowed.
  assert.equal(attempt('mkdir', join(at.mnt, 'y')), '');
  assert.match(attempt('mkdir', join(at.mnt, 'y')), /File exists/);
  assert.match(attempt('rmdir', join(at.mnt, 'z')), /No such file/);
});

test('what was parked is done by the successor', { skip }, async (t) => {
  const at = await serve(t);
  at.trouble({ op: 'fsync', at: 'parked', times: 2 });
  assert.equal(attempt('sync', join(at.mnt, 'file')), '');
  assert.equal((await at.status()).restarts, 2);
});

test('requests that no server has read wait for the next one', { skip }, async (t) => {
  const at = await serve(t);
  const { pid } = await at.status();
  process.kill(pid, 'SIGSTOP');
  const child = spawn('stat', [join(at.mnt, 'file')], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  await sleep(100);
  assert.equal(child.exitCode, null);
  process.kill(pid, 'SIGKILL');
  assert.deepEqual(await exited, [0, null]);
});

test('50 kills, with programs that read, make and remove: they notice nothing', {
  skip,
}, async (t) => {
  const at = await serve(t);
  const stops = [
    client(
      `if (fs.readFileSync(mnt + '/file', 'utf8') !== 'text') throw new Error('other content');`,
      at.mnt,
    ),
    client(`fs.mkdirSync(mnt + '/dir'); fs.rmdirSync(mnt + '/dir');`, at.mnt),
    client(
      `fs.writeFileSync(mnt + '/new', String(rounds), { flag: 'wx' });
       if (fs.readFileSync(mnt + '/new', 'utf8') !== String(rounds)) throw new Error('lost');
       fs.unlinkSync(mnt + '/new');`,
      at.mnt,
    ),
  ];
  for (let i = 0; i < 50; i++) {
    await at.kill();
    // From right after its start to well into its work.
    await sleep((i % 10) * 5);
  }
  for (const stop of stops) {
    const { rounds, longest, errors } = await stop();
    assert.deepEqual(errors, []);
    assert.ok(rounds > 10, `${rounds} rounds`);
    t.diagnostic(`${rounds} rounds, the longest took ${Math.round(longest)} ms`);
  }
  assert.deepEqual(readdirSync(at.folder), ['file']);
  const memory = /^VmRSS:\s+(\d+) kB/m.exec(
    readFileSync(`/proc/${at.supervisorPid}/status`, 'latin1'),
  );
  assert.ok(Number(memory?.[1]) < 60 * 1024, `the supervisor takes ${memory?.[1]} KiB`);
});

test('a loaded server waits once one has died, and is the next', { skip }, async (t) => {
  const at = await serve(t);
  assert.deepEqual(childrenOf(at.supervisorPid), []);
  const { pid } = await at.kill();
  await until('a spare', () => childrenOf(at.supervisorPid).length === 2);
  const spare = childrenOf(at.supervisorPid).find((child) => child !== pid);
  assert.equal((await at.kill()).pid, spare);
  const { supervisor, mnt, supervisorPid } = at;
  await supervisor.ask({ op: 'umount', mountpoint: mnt, force: false });
  await until('no server is left', () => childrenOf(supervisorPid).length === 0);
});

test('a request that ends every server gets EIO; the mount lives', { skip }, async (t) => {
  const at = await serve(t);
  at.trouble({ op: 'lookup', name: 'poison', at: 'started', times: 100 });
  assert.match(attempt('stat', join(at.mnt, 'poison')), /Input\/output error/);
  const status = await at.status();
  assert.deepEqual([status.state, status.restarts], ['mounted', 3]);
  assert.equal(readFileSync(join(at.mnt, 'file'), 'utf8'), 'text');
  at.trouble({ op: 'mkdir', name: 'poison', at: 'published', times: 100 });
  assert.match(attempt('mkdir', join(at.mnt, 'poison')), /Input\/output error/);
  assert.equal((await at.status()).restarts, 6);
  assert.equal(readFileSync(join(at.mnt, 'file'), 'utf8'), 'text');
});

test('servers that end again and again: EIO for everybody, and words', { skip }, async (t) => {
  const at = await serve(t);
  const open = openSync(join(at.mnt, 'file'), 'r');
  // Each of another request, so that none of them is poison.
  for (let i = 1; i <= FAILURE_LIMIT; i++) {
    at.trouble({ op: 'lookup', name: `x${i}`, at: 'started', times: 1, exit: 4 });
    const said = attempt('stat', join(at.mnt, `x${i}`));
    assert.match(said, (await at.status()).state === 'failed' ? /Input\/output/ : /No such file/);
  }
  // The first was the command line's child: nobody knows that it ended by itself.
  at.trouble({ op: 'lookup', name: 'last', at: 'started', times: 1, exit: 4 });
  assert.match(attempt('stat', join(at.mnt, 'last')), /Input\/output error/);
  const status = await at.status();
  assert.deepEqual([status.state, status.refuses], ['failed', true]);
  assert.match(
    status.why ?? '',
    /5 servers ended within 60 s, the last because it exited with 4.*EIO.*varve reload \/.*varve umount/,
  );
  assert.ok(mountAt(at.mnt));
  assert.match(attempt('cat', join(at.mnt, 'file')), /Input\/output error/);
  assert.match(attempt('ls', at.mnt), /Input\/output error/);
  assert.equal(attempt('stat', at.mnt), '');
  assert.throws(() => fstatSync(open), /EIO/);
  const again = await at.supervisor.ask({
    op: 'mount',
    mount: { mountpoint: at.mnt, fsname: 'x', subtype: 'varve-test' },
    program: at.program,
    spec: {},
  });
  assert.equal(again.error?.kind, 'busy');
  // Another attempt.
  const reloaded = await at.supervisor.ask({
    op: 'reload',
    mountpoint: at.mnt,
    program: at.program,
  });
  assert.equal(reloaded.error, undefined);
  const revived = reloaded.mounts?.[0];
  assert.deepEqual(
    [revived?.state, revived?.why, revived?.refuses],
    ['mounted', undefined, undefined],
  );
  assert.equal(readFileSync(join(at.mnt, 'file'), 'utf8'), 'text');
  assert.equal(fstatSync(open).size, 4);
  closeSync(open);
});

test('successors that cannot start are given up, and unmounting ends it', { skip }, async (t) => {
  const at = await serve(t);
  writeFileSync(`${at.folder}.exit`, '');
  process.kill((await at.status()).pid, 'SIGKILL');
  assert.match(attempt('stat', join(at.mnt, 'file')), /Input\/output error/);
  const status = await at.status();
  assert.match(status.why ?? '', /5 (successors could not start|servers ended within 60 s)/);
  const waiting = at.supervisor.ask({ op: 'wait', mountpoint: at.mnt });
  unmount(at.mnt);
  await waiting;
  assert.match((await at.supervisor.ask({ op: 'list' })).mounts?.join() ?? '', /^$/);
  await until('nobody answers', () => gone(status.pid));
});

test('a successor that says that there is no hope is the last', { skip }, async (t) => {
  const at = await serve(t);
  writeFileSync(`${at.folder}.refuse`, '');
  process.kill((await at.status()).pid, 'SIGKILL');
  assert.match(attempt('stat', join(at.mnt, 'file')), /Input\/output error/);
  const status = await at.status();
  assert.deepEqual([status.state, status.restarts], ['failed', 1]);
  assert.match(status.why ?? '', /no successor of this kind can serve: every request gets EIO/);
  const reply = await at.supervisor.ask({ op: 'umount', mountpoint: at.mnt, force: false });
  assert.equal(reply.error, undefined);
  await until(
    'it is gone',
    async () => (await at.supervisor.ask({ op: 'list' })).mounts?.length === 0,
  );
  assert.equal(mountAt(at.mnt), undefined);
});

test('unmounting while a successor starts', { skip }, async (t) => {
  for (const how of ['umount', 'lazy', 'force'] as const) {
    const at = await serve(t);
    const waiting = at.supervisor.ask({ op: 'wait', mountpoint: at.mnt });
    process.kill((await at.status()).pid, 'SIGKILL');
    if (how === 'umount') unmount(at.mnt);
    else await at.supervisor.ask({ op: 'umount', mountpoint: at.mnt, force: how === 'force' });
    const { why, error } = await waiting;
    assert.deepEqual([why, error], [undefined, undefined], how);
    assert.equal(mountAt(at.mnt), undefined, how);
    await until('no server is left', () => childrenOf(at.supervisorPid).length === 0);
  }
});

test('a file that is open on a detached mount has successors, too', { skip }, async (t) => {
  const at = await serve(t);
  const fd = openSync(join(at.mnt, 'file'), 'r');
  await at.supervisor.ask({ op: 'umount', mountpoint: at.mnt, force: false });
  await at.kill();
  assert.equal(readFileSync(fd, 'utf8'), 'text');
  closeSync(fd);
  await until(
    'it ends',
    async () => (await at.supervisor.ask({ op: 'list' })).mounts?.length === 0,
  );
});

test('an aborted connection is no death', {
  skip: requires({ root: true, features: ['fuse', 'fusectl'] }),
}, async (t) => {
  const at = await serve(t);
  const device = mountAt(at.mnt)?.device.replace(/^0:/, '');
  writeFileSync(`/sys/fs/fuse/connections/${device}/abort`, '1');
  await until('it failed', async () => (await at.status()).state === 'failed');
  const { why, restarts, refuses } = await at.status();
  assert.match(why ?? '', /its connection was aborted/);
  assert.deepEqual([restarts, refuses, mountAt(at.mnt)], [0, undefined, undefined]);
  const reply = await at.supervisor.ask({ op: 'umount', mountpoint: at.mnt, force: false });
  assert.equal(reply.error, undefined);
  assert.equal((await at.supervisor.ask({ op: 'list' })).mounts?.length, 0);
});

test('reload replaces a server under load; a program that cannot changes nothing', {
  skip,
}, async (t) => {
  const at = await serve(t);
  const reload = (program: readonly string[]): Promise<Reply> =>
    at.supervisor.ask({ op: 'reload', mountpoint: at.mnt, program });
  const { dev } = statSync(at.mnt);
  const stops = [
    client(`fs.mkdirSync(mnt + '/dir'); fs.rmdirSync(mnt + '/dir');`, at.mnt),
    client(
      `const fd = fs.openSync(mnt + '/file', 'r+'); fs.fsyncSync(fd); fs.closeSync(fd);`,
      at.mnt,
    ),
  ];
  const pids = new Set([(await at.status()).pid]);
  for (let i = 0; i < 5; i++) {
    const { error, mounts } = await reload([...at.program]);
    assert.equal(error, undefined);
    pids.add(mounts?.[0]?.pid as number);
    assert.equal(mounts?.[0]?.lastRestart?.reason, 'reload');
    assert.ok((mounts?.[0]?.lastRestart?.stallMilliseconds ?? -1) >= 0);
  }
  assert.equal(pids.size, 6);
  assert.equal(statSync(at.mnt).dev, dev);

  const { pid } = await at.status();
  const other = await reload([...at.program, '999']);
  assert.equal(other.error?.kind, 'server');
  assert.match(
    other.error?.message ?? '',
    /keeps other tables \(999\) than the running server \(\d+\): unmount, then mount again$/,
  );
  const none = await reload([join(at.folder, 'none.js')]);
  assert.match(none.error?.message ?? '', /the new server cannot start: it exited with 1/);
  assert.equal((await at.status()).pid, pid);
  assert.equal((await at.status()).restarts, 5);

  // One that fails when the old one has gone already.
  const failed = await reload([...at.program, String(LAYOUT_VERSION), 'refuse']);
  assert.match(
    failed.error?.message ?? '',
    /the new server failed, one of the old program serves again: no successor of this kind/,
  );
  const last = await replaced(at.status, 7);
  assert.equal(last.state, 'mounted');
  assert.match(last.lastRestart?.reason ?? '', /^reload failed: no successor/);
  for (const stop of stops) assert.deepEqual((await stop()).errors, []);
});

test('before Linux 6.9: what was read ends with an error, what was not waits', {
  skip: requires({ features: ['fuse'] }),
}, async (t) => {
  const at = await serve(t, { recovery: 'clone' });
  at.trouble({ op: 'mkdir', at: 'started', times: 1 });
  assert.match(attempt('mkdir', join(at.mnt, 'x')), /Software caused connection abort/);
  await replaced(at.status, 1);
  assert.equal(attempt('mkdir', join(at.mnt, 'x')), '');
  // Once more, for the successor has a clone of its own.
  at.trouble({ op: 'rmdir', at: 'published', times: 1 });
  assert.match(attempt('rmdir', join(at.mnt, 'x')), /Software caused connection abort/);
  const { pid } = await replaced(at.status, 2);
  assert.deepEqual(readdirSync(at.mnt), ['file']);
  process.kill(pid, 'SIGSTOP');
  const child = spawn('stat', [join(at.mnt, 'file')], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  await sleep(100);
  process.kill(pid, 'SIGKILL');
  assert.deepEqual(await exited, [0, null]);
  const reply = await at.supervisor.ask({ op: 'reload', mountpoint: at.mnt, program: at.program });
  assert.equal(reply.error, undefined);
  assert.equal(basename(readdirSync(at.mnt)[0] ?? ''), 'file');
});

test('a filesystem that cannot be succeeded fails with its server, and is not reloaded', {
  skip,
}, async (t) => {
  const at = await serve(t, { recovery: 'none' });
  const reply = await at.supervisor.ask({ op: 'reload', mountpoint: at.mnt, program: at.program });
  assert.match(reply.error?.message ?? '', /cannot be replaced while it is mounted/);
  process.kill((await at.status()).pid, 'SIGKILL');
  await until('it failed', async () => (await at.status()).state === 'failed');
  assert.equal(mountAt(at.mnt), undefined);
});
