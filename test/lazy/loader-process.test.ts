// The loader as a process under a real supervisor: clients on its socket, kills at any moment, and its end.
// Under test: stack/run-loader.ts, supervisor/loader.ts, lazy/load/connection.ts. Whatever a map says is here has its content in the blob.
// `--rounds 200` kills it so often.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Ask, type LoaderStatus, Tell } from '../../src/lazy/protocol.js';
import { ResidencyMap } from '../../src/lazy/residency.js';
import { lockFile } from '../../src/linux/peer.js';
import { askSupervisor, type Supervisor } from '../../src/supervisor/client.js';
import type { LoaderInfo } from '../../src/supervisor/protocol.js';
import { gone, until } from '../supervisor/place.js';
import { campaign } from '../support/campaign.js';
import { processesWith } from '../support/processes.js';
import { makeTempDir, removeTempDir, removeWhole } from '../support/temp.js';
import { type FakeLayer, makeLayer, manySizes } from './fake-layer.js';
import { Client, frame } from './users.js';

const script = fileURLToPath(new URL('./serve-loader.js', import.meta.url));

interface Place {
  readonly layer: FakeLayer;
  readonly env: NodeJS.ProcessEnv;
  readonly runtime: string;
  load(): Promise<LoaderInfo>;
  /** What the supervisor knows now. */
  info(): Promise<LoaderInfo | undefined>;
}

function place(
  t: { after(fn: () => Promise<void> | void): void },
  sizes: readonly number[],
  delay = 0,
): Place {
  const folder = makeTempDir();
  const layer = makeLayer(join(folder, 'layer'), sizes);
  const origin = join(folder, 'origin');
  writeFileSync(origin, layer.origin);
  const runtime = join(folder, 'run');
  const env = { ...process.env, VARVE_RUNTIME_DIR: runtime, VARVE_SUPERVISOR_IDLE: '300' };
  const supervisors: Supervisor[] = [];
  const pids = new Set<number>();
  t.after(async () => {
    for (const supervisor of supervisors) supervisor.close();
    // Nobody uses a layer any more: loader and supervisor end by themselves.
    try {
      await until('the supervisor ends', () => [...pids].every(gone));
    } finally {
      removeTempDir(folder);
    }
  });
  return {
    layer,
    env,
    runtime,
    load: async () => {
      const program = [script, origin, String(delay)];
      const { reply, supervisor } = await askSupervisor({ op: 'load', program }, env);
      supervisors.push(supervisor);
      pids.add(reply.supervisor as number);
      assert.equal(reply.error, undefined);
      return reply.loader as LoaderInfo;
    },
    info: async () => (await supervisors[0]?.ask({ op: 'list' }))?.loader,
  };
}

const clients: Client[] = [];
// One that a failed test has left would keep this process, and the loader, from ending.
afterEach(() => {
  for (const client of clients.splice(0)) client.socket.destroy();
});

async function connected(path: string, folder: string, policy = {}): Promise<Client> {
  const client = new Client(path);
  clients.push(client);
  await once(client.socket, 'connect');
  client.hello();
  client.use(1, folder, policy);
  return client;
}

test('a client gets its chunks; the loader ends when all is here, then the supervisor', async (t) => {
  const at = place(t, manySizes(120));
  const info = await at.load();
  assert.equal((await at.load()).pid, info.pid, 'there is one loader');
  const status = readFileSync(`/proc/${info.pid}/status`, 'utf8');
  assert.match(
    status,
    new RegExp(`^PPid:\\t${process.pid}$`, 'm'),
    'started beside its supervisor',
  );
  const client = await connected(info.socket, at.layer.folder.path);
  const usingFrame = await client.next(({ kind }) => kind === Tell.USING);
  assert.deepEqual([usingFrame?.layer, usingFrame?.first, usingFrame?.count], [1, 0, 0]);
  client.send(Ask.WANT, 1, 7, 3);
  for (const i of [7, 8, 9]) {
    await client.next(
      ({ kind, first, count }) => kind === Tell.HERE && first <= i && i < first + count,
    );
  }
  client.json(Ask.COMMAND, 9, { op: 'status', mountpoint: '/mnt' });
  const answer = await client.next(({ kind }) => kind === Tell.JSON_REPLY);
  const told = answer?.json as unknown as LoaderStatus;
  assert.equal(answer?.layer, 9);
  assert.equal(told.pid, info.pid);
  assert.ok((told.layers[0]?.residentChunks as number) >= 3);
  client.json(Ask.COMMAND, 10, { op: 'fill', mountpoint: '/mnt' });
  await client.next(({ kind }) => kind === Tell.COMPLETE);
  assert.ok(at.layer.folder.isComplete);
  await client.next(() => false);
  assert.ok(client.closed, 'the loader has ended');
  while ((await at.info()) !== undefined) await sleep(20);
  assert.deepEqual(
    readdirSync(at.runtime).filter((name) => name.includes('loader.sock')),
    [],
  );
});

test('a loader that was started beside its supervisor for nothing ends with its starter, and so does that', async (t) => {
  const folder = makeTempDir();
  t.after(() => removeTempDir(folder));
  const env = {
    ...process.env,
    VARVE_RUNTIME_DIR: join(folder, 'run'),
    VARVE_SUPERVISOR_IDLE: '100',
  };
  const client = new URL('../../src/supervisor/client.js', import.meta.url);
  const text = `import { startAhead } from '${client}';
    startAhead({ loader: { op: 'load', program: ['${script}', '/nowhere', '0'] } });
    process.stdin.on('end', () => process.exit(0)).resume();`;
  const starter = spawn(process.execPath, ['--input-type=module', '-e', text], {
    env,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  t.after(() => starter.kill());
  const theirs = () => processesWith('VARVE_RUNTIME_DIR', env.VARVE_RUNTIME_DIR);
  await until('all three run', () => theirs().length === 3);
  const exited = once(starter, 'exit');
  starter.stdin?.end();
  await exited;
  await until('all are gone', () => theirs().length === 0);
});

test('a socket that somebody has removed is there again, also where its folder went', async (t) => {
  const at = place(t, [8192, 8192, 8192]);
  const { socket, pid } = await at.load();
  const before = await connected(socket, at.layer.folder.path);
  for (const whole of [false, true]) {
    if (whole) removeWhole(at.runtime);
    else for (const name of readdirSync(at.runtime)) rmSync(join(at.runtime, name));
    // The supervisor's own comes first: until then another one would be started.
    await until('it is there', () => existsSync(socket.replace('.loader.sock', '.sock')));
    const info = await at.load();
    assert.deepEqual([info.pid, info.socket], [pid, socket]);
    const client = await connected(socket, at.layer.folder.path);
    client.send(Ask.WANT, 1, whole ? 1 : 0, 1);
    assert.ok(await client.next(({ kind }) => kind === Tell.HERE));
  }
  // Who was connected still is. The next one has the new socket.
  before.send(Ask.WANT, 1, 2, 1);
  assert.ok(await before.next(({ kind }) => kind === Tell.HERE));
  process.kill(pid, 'SIGKILL');
  const client = await connected(socket, at.layer.folder.path);
  assert.ok(await client.next(({ kind }) => kind === Tell.USING));
});

test('an unknown layer is refused in words, the connection goes on', async (t) => {
  const at = place(t, [8192]);
  const { socket } = await at.load();
  const client = await connected(socket, '/nowhere');
  const refused = await client.next(({ kind }) => kind === Tell.REFUSED);
  assert.match(String(refused?.json?.['message']), /no layer is there/);
  client.use(2, at.layer.folder.path);
  client.send(Ask.WANT, 2, 0, 1);
  assert.ok(await client.next(({ kind, layer }) => kind === Tell.HERE && layer === 2));
});

test('a layer that another process is letting go of is waited for, one that it keeps is refused', async (t) => {
  const at = place(t, [8192]);
  const { path, lock } = at.layer.folder;
  const { socket } = await at.load();
  const other = openSync(lock, 'a');
  assert.ok(lockFile(other) >= 0);
  const client = await connected(socket, path);
  const refused = await client.next(({ kind }) => kind === Tell.REFUSED || kind === Tell.USING);
  assert.match(String(refused?.json?.['message']), /another process loads this layer/);
  client.use(2, path);
  await sleep(50);
  closeSync(other);
  const answer = await client.next(({ kind, layer }) => kind !== Tell.HELLO && layer === 2);
  assert.equal(answer?.kind, Tell.USING);
});

test('nonsense ends the connection of who talks it, and nothing else', async (t) => {
  const at = place(t, [8192, 8192]);
  const { socket, pid } = await at.load();
  const good = await connected(socket, at.layer.folder.path);
  await good.next(({ kind }) => kind === Tell.USING);
  const policy = { stall: 'wait', fill: false, prefetch: false, record: false };
  const request = { layer: 1, folder: '/x', mountpoint: '/mnt', policy };
  const json = (kind: number, text: string): Buffer =>
    Buffer.concat([frame(kind, 1, 0, Buffer.byteLength(text)), Buffer.from(text)]);
  const hello = frame(Ask.HELLO, 0, 1, 0);
  const using = json(Ask.USE, JSON.stringify({ ...request, folder: at.layer.folder.path }));
  const rows: Buffer[] = [
    frame(Ask.WANT, 1, 0, 1),
    frame(99, 0, 0, 0),
    frame(Ask.USE, 1, 0, 0xffff_ffff),
    json(Ask.USE, 'no json'),
    json(Ask.USE, '[]'),
    json(Ask.USE, 'null'),
    json(Ask.USE, JSON.stringify({ ...request, layer: -1 })),
    json(Ask.USE, JSON.stringify({ ...request, folder: 'relative' })),
    json(Ask.USE, JSON.stringify({ ...request, policy: { ...policy, stall: -1 } })),
    json(Ask.USE, JSON.stringify({ ...request, policy: null })),
    Buffer.concat([using, frame(Ask.WANT, 1, 1, 2)]),
    Buffer.concat([using, frame(Ask.WANT, 1, 0, 0xffff_ffff)]),
    Buffer.concat([using, using]),
  ];
  for (const [i, row] of rows.entries()) {
    const bad = connect(socket);
    bad.on('error', () => {});
    bad.write(i === 0 ? row : Buffer.concat([hello, row]));
    await new Promise((resolve) => {
      bad.on('close', resolve);
      bad.resume();
    });
  }
  good.send(Ask.WANT, 1, 1, 1);
  assert.ok(await good.next(({ kind, first }) => kind === Tell.HERE && first === 1));
  assert.equal((await at.info())?.pid, pid);
});

test('a killed loader is replaced: nobody is told what is not true, and what was here stays', async (t) => {
  const rounds = campaign('rounds', 10);
  const at = place(t, manySizes(600), 2);
  const { table, blob, folder } = at.layer;
  const { socket } = await at.load();
  const state = { over: false, checked: 0, told: 0 };
  let fd = -1;
  const check = (i: number, why: string): void => {
    if (fd < 0) fd = openSync(folder.blob, 'r');
    const bytes = Buffer.alloc(table.length(i));
    readSync(fd, bytes, 0, bytes.length, table.at(i));
    const expected = blob.subarray(table.at(i), table.at(i) + bytes.length);
    assert.ok(bytes.equals(expected), `chunk ${i}, ${why}`);
    state.checked++;
  };
  const reader = async (): Promise<void> => {
    while (!state.over) {
      const client = await connected(socket, folder.path);
      while (!client.closed && !state.over) {
        const i = Math.floor(Math.random() * table.count);
        client.send(Ask.WANT, 1, i, 1);
        const told = await client.next(
          ({ kind, first, count }) => kind === Tell.HERE && first <= i && i < first + count,
        );
        if (told === undefined) break;
        check(i, 'which was told');
        state.told++;
        const here = client.told.filter(({ kind }) => kind === Tell.FAILED);
        assert.deepEqual(here, []);
      }
      client.socket.destroy();
      await sleep(2);
    }
  };
  const readers = [reader(), reader(), reader()];
  let last = 0;
  for (let killed = 0; killed < rounds; ) {
    await sleep(Math.random() * 60);
    const info = await at.info();
    if (info === undefined || info.pid === 0 || info.pid === last) continue;
    // Some are killed while they start, others when they have done something.
    const enough = state.told + (killed % 4 === 3 ? 0 : Math.ceil(Math.random() * 15));
    while (state.told < enough) await sleep(2);
    last = info.pid;
    process.kill(info.pid, 'SIGKILL');
    killed++;
    if (existsSync(folder.map)) {
      const map = ResidencyMap.open(folder.map, table.count, false);
      for (let i = 0; i < table.count; i += 3) if (map.isHere(i)) check(i, 'which the map has');
      map.close();
    }
  }
  state.over = true;
  // The last that was killed may have taken a connection.
  while (!folder.isComplete) {
    const client = await connected(socket, folder.path, { fill: true });
    await client.next(({ kind }) => kind === Tell.COMPLETE);
  }
  await Promise.all(readers);
  for (let i = 0; i < table.count; i++) check(i, 'at the end');
  const info = await at.info();
  if (info !== undefined) assert.ok(info.restarts >= rounds - 1, `${info.restarts} restarts`);
  t.diagnostic(`${state.checked} chunks compared, ${state.told} of them told`);
});

test('a loader that cannot start is reported with its reason', async (t) => {
  const at = place(t, [8192]);
  const program = [join(at.runtime, 'none.js')];
  const { reply, supervisor } = await askSupervisor({ op: 'load', program }, at.env);
  supervisor.close();
  assert.equal(reply.error?.kind, 'server');
  assert.match(reply.error?.message ?? '', /^the loader of lazy layers does not start: /);
});
