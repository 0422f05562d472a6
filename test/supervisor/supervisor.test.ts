// A real supervisor with servers of a filesystem in memory: starting, refusing, dying, ending.
// Under test: src/supervisor/. Each test has a runtime folder, and so a supervisor, of its own.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountAt } from '../../src/linux/mountinfo.js';
import { findSupervisor, type Supervisor } from '../../src/supervisor/client.js';
import type { MountStatus, Reply, Request } from '../../src/supervisor/protocol.js';
import { requires } from '../support/requires.js';
import { gone, type Place, place, unmount, until } from './place.js';
import type { FakeSpec } from './serve-memfs.js';

const skip = requires({ features: ['fuse'] });

async function mountOne(
  { ask, request }: Place,
  name: string,
  spec?: FakeSpec,
): Promise<{ status: MountStatus; supervisor: Supervisor; reply: Reply }> {
  const { reply, supervisor } = await ask(request(name, spec));
  assert.equal(reply.error, undefined);
  return { status: reply.mounts?.[0] as MountStatus, supervisor, reply };
}

test('mounts, serves, and ends by itself when the last mount is gone', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor, reply } = await mountOne(at, 'm');
  assert.equal(status.state, 'mounted');
  assert.equal(mountAt(status.mountpoint)?.type, 'fuse.varve-test');
  writeFileSync(join(status.mountpoint, 'file'), 'text');
  assert.equal(readFileSync(join(status.mountpoint, 'file'), 'utf8'), 'text');

  const listed = await supervisor.ask({ op: 'list' });
  assert.deepEqual(
    listed.mounts?.map((m) => m.mountpoint),
    [status.mountpoint],
  );
  const waiting = supervisor.ask({ op: 'wait', mountpoint: status.mountpoint });
  unmount(status.mountpoint);
  assert.equal((await waiting).why, undefined);
  supervisor.close();
  await until('the supervisor ends', () => gone(reply.supervisor as number));
  assert.deepEqual(
    readdirSync(at.runtime).filter((name) => !name.endsWith('.lock')),
    [],
  );
});

test('several mounts share one supervisor, also when they begin at the same moment', {
  skip,
}, async (t) => {
  const at = place(t, 'serve-memfs');
  const results = await Promise.all(['m1', 'm2', 'm3'].map((name) => mountOne(at, name)));
  const supervisors = new Set(results.map(({ reply }) => reply.supervisor));
  assert.equal(supervisors.size, 1);
  const listed = await results[0]?.supervisor.ask({ op: 'list' });
  assert.equal(listed?.mounts?.length, 3);
  for (const { status, supervisor } of results) {
    unmount(status.mountpoint);
    supervisor.close();
  }
});

test('the same mount point twice is refused, until the first mount is gone', {
  skip,
}, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor } = await mountOne(at, 'm');
  const again = await supervisor.ask(at.request('m'));
  assert.equal(again.error?.kind, 'busy');
  assert.match(again.error?.message ?? '', /already mounted: unmount it first/);
  unmount(status.mountpoint);
  const third = await supervisor.ask(at.request('m'));
  assert.equal(third.error, undefined);
  unmount(status.mountpoint);
  supervisor.close();
});

test('a server that refuses its layers leaves nothing mounted', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const request = at.request('m', { fail: 'refuse' });
  for (const running of [false, true]) {
    const { reply, supervisor } = await at.ask(request);
    assert.deepEqual(reply.error, {
      kind: 'layer',
      message: 'lowerdir: /nowhere: no such directory: create it',
    });
    assert.equal(mountAt(request.mount.mountpoint), undefined, `running before: ${running}`);
    supervisor.close();
  }
});

test('a server that crashes before the mount is reported with the end of its log', {
  skip,
}, async (t) => {
  const at = place(t, 'serve-memfs');
  const { reply, supervisor } = await at.ask(at.request('m', { fail: 'crash-before' }));
  assert.equal(reply.error?.kind, 'server');
  assert.match(
    reply.error?.message ?? '',
    /^the server of .*\/m failed: it .*(ended|exited with 1)/,
  );
  supervisor.close();
});

test('a server that cannot be started is reported', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const request = { ...at.request('m'), program: [join(at.runtime, 'none.js')] };
  const { reply, supervisor } = await at.ask(request);
  assert.equal(reply.error?.kind, 'server');
  supervisor.close();
});

test('a missing mount point is an error of the layers', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const request = at.request('m');
  const mount = { ...request.mount, mountpoint: `${request.mount.mountpoint}/none` };
  const { reply, supervisor } = await at.ask({ ...request, mount });
  assert.equal(reply.error?.kind, process.geteuid?.() === 0 ? 'layer' : 'permission');
  supervisor.close();
});

test('when a server dies its mount is detached, nobody hangs, and status says why', {
  skip,
}, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor } = await mountOne(at, 'm');
  const waiting = supervisor.ask({ op: 'wait', mountpoint: status.mountpoint });
  process.kill(status.pid, 'SIGKILL');
  assert.match((await waiting).why ?? '', /the server of .* failed/);
  assert.equal(mountAt(status.mountpoint), undefined);
  const after = (await supervisor.ask({ op: 'status', mountpoint: status.mountpoint })).mounts?.[0];
  assert.equal(after?.state, 'failed');
  assert.match(after?.why ?? '', /failed/);
  // The next mount there takes its place.
  const again = await supervisor.ask(at.request('m'));
  assert.equal(again.error, undefined);
  unmount(status.mountpoint);
  supervisor.close();
});

test('umount with force ends the server at once', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor } = await mountOne(at, 'm');
  const waiting = supervisor.ask({ op: 'wait', mountpoint: status.mountpoint });
  const reply = await supervisor.ask({ op: 'umount', mountpoint: status.mountpoint, force: true });
  assert.equal(reply.error, undefined);
  await waiting;
  assert.equal(mountAt(status.mountpoint), undefined);
  await until('the server is gone', () => gone(status.pid));
  supervisor.close();
});

test('SIGTERM to the supervisor detaches every mount', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor, reply } = await mountOne(at, 'm');
  process.kill(reply.supervisor as number, 'SIGTERM');
  await until('the supervisor ends', () => gone(reply.supervisor as number));
  assert.equal(mountAt(status.mountpoint), undefined);
  supervisor.close();
});

test('a mount that is asked for while the supervisor ends is the next one’s', {
  skip,
}, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor, reply } = await mountOne(at, 'm');
  const file = openSync(join(status.mountpoint, 'file'), 'w');
  process.kill(reply.supervisor as number, 'SIGTERM');
  await until('it is detached', () => mountAt(status.mountpoint) === undefined);
  // It waits for the server, which has an open file.
  const next = mountOne(at, 'm2');
  await supervisor.ask({ op: 'list' });
  closeSync(file);
  const { reply: other, status: second, supervisor: successor } = await next;
  assert.notEqual(other.supervisor, reply.supervisor);
  unmount(second.mountpoint);
  for (const one of [supervisor, successor]) one.close();
});

test('a mount outlives a supervisor that is killed', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor, reply } = await mountOne(at, 'm');
  process.kill(reply.supervisor as number, 'SIGKILL');
  await until('the supervisor ends', () => gone(reply.supervisor as number));
  writeFileSync(join(status.mountpoint, 'file'), 'text');
  assert.equal(readFileSync(join(status.mountpoint, 'file'), 'utf8'), 'text');
  supervisor.close();
  // The socket is stale; a new supervisor takes its place.
  const next = await mountOne(at, 'm2');
  next.supervisor.close();
  unmount(next.status.mountpoint);
  unmount(status.mountpoint);
  await until('the server ends', () => gone(status.pid));
});

test('unknown mounts, requests and versions are refused in words', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor } = await mountOne(at, 'm');
  const none = await supervisor.ask({ op: 'status', mountpoint: '/none' });
  assert.deepEqual(none.error, {
    kind: 'absent',
    message: '/none: not a mount of this supervisor',
  });
  const odd = await supervisor.ask({ op: 'dance' } as unknown as Request);
  assert.match(odd.error?.message ?? '', /unknown request "dance"/);
  const old = await supervisor.ask({ op: 'list', v: 0 } as unknown as Request);
  assert.match(old.error?.message ?? '', /of another version/);
  unmount(status.mountpoint);
  supervisor.close();
});

test('nonsense closes the connection and nothing else', { skip }, async (t) => {
  const at = place(t, 'serve-memfs');
  const { status, supervisor } = await mountOne(at, 'm');
  const socket = readdirSync(at.runtime).find((name) => name.endsWith('.sock')) as string;
  const raw = connect(join(at.runtime, socket));
  raw.resume();
  raw.on('error', () => {});
  raw.write('nonsense\n');
  await new Promise((resolve) => raw.once('close', resolve));
  assert.equal((await supervisor.ask({ op: 'list' })).mounts?.length, 1);
  unmount(status.mountpoint);
  supervisor.close();
});

test('another user is not answered, not even root', {
  skip: requires({ root: true, features: ['fuse', 'plain-user'] }),
}, async (t) => {
  const at = place(t, 'serve-memfs');
  const nobody = 65534;
  mkdirSync(at.runtime, { mode: 0o700 });
  chownSync(at.runtime, nobody, nobody);
  const script = new URL('../../src/supervisor/client.js', import.meta.url).href;
  // Nobody's supervisor: asked for a list, so it starts without a mount, and stays while it is asked.
  const code = `
      const { askSupervisor } = await import(${JSON.stringify(script)});
      const { reply } = await askSupervisor({ op: 'list' });
      console.log(reply.supervisor);
    `;
  const started = spawnSync(
    'setpriv',
    [
      '--reuid',
      '65534',
      '--regid',
      '65534',
      '--clear-groups',
      process.execPath,
      '--input-type=module',
      '-e',
      `${code}; process.exit(0)`,
    ],
    { encoding: 'utf8', env: { ...at.env, VARVE_SUPERVISOR_IDLE: '60000' } },
  );
  const pid = Number(started.stdout);
  assert.ok(pid > 0, started.stderr);
  t.after(() => process.kill(pid, 'SIGTERM'));
  assert.equal(await findSupervisor(at.env), undefined, 'the folder is not ours');
  let name: string | undefined;
  await until('it listens', () => {
    name = readdirSync(at.runtime).find((file) => file.endsWith('.sock'));
    return name !== undefined;
  });
  const raw = connect(join(at.runtime, name as string));
  raw.on('error', () => {});
  let answered = '';
  raw.on('data', (chunk) => {
    answered += chunk;
  });
  raw.write('{"v":1,"id":1,"op":"list"}\n');
  await new Promise((resolve) => raw.once('close', resolve));
  assert.equal(answered, '');
});
