// Readers of a layer that the kernel has mounted, while any two of those three are killed that could keep it from reading zeros:
// supervisor, loader, holder. Under test: src/supervisor/holder.ts, bequest.ts, supervisor.ts as an heir. `--rounds 200` for a campaign.
// A reader that gets zeros, an error or anything else than the tree has is a failure, and so is one that waits for ever.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { unheldMounts } from '../../src/stack/unheld.js';
import { findSupervisor } from '../../src/supervisor/client.js';
import { makeRuntime } from '../../src/supervisor/folder.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { KERNEL_WAY, NO_FILL, place, run, startLoader, until } from './kernel-place.js';
import { Readers, works } from './readers.js';

const READERS = 4;
const rounds = campaign('rounds', 6);
/** Killings before another layer takes its turn: readers are through with one in less than a minute. */
const A_PLACE = 10;

interface Trio {
  readonly supervisor: number;
  readonly loader: number;
  readonly holder: number;
}

/** All of them, as soon as there are all; undefined while there are not, or none is needed. */
async function trio(): Promise<Trio | undefined> {
  const found = await findSupervisor();
  try {
    const { supervisor, loader } = (await found?.ask({ op: 'list' })) ?? {};
    if (supervisor === undefined || loader === undefined) return undefined;
    const { pid, holder } = loader;
    return pid === 0 || holder === undefined ? undefined : { supervisor, loader: pid, holder };
  } catch {
    return undefined;
  } finally {
    found?.close();
  }
}

async function isFound(): Promise<boolean> {
  const found = await findSupervisor();
  found?.close();
  return found !== undefined;
}

const VICTIMS: readonly (readonly (keyof Trio)[])[] = [
  ['supervisor', 'loader'],
  ['loader', 'supervisor'],
  ['supervisor', 'holder'],
  ['holder', 'loader'],
  ['supervisor'],
  ['holder'],
];

test('no reader notices that two of supervisor, loader and holder were killed', {
  skip: requires(KERNEL_WAY),
}, async (t) => {
  let kills = 0;
  let reads = 0;
  for (let tries = 0; kills < rounds; tries++) {
    assert.ok(tries < rounds, `${kills} kills`);
    const p = await place(t, { chunkSize: 4096, big: 24 << 20 });
    p.tell('latency', '5');
    await p.mount(NO_FILL);
    const stop = join(p.folder, 'stop');
    const readers = new Readers(p, READERS, 170 + 3 * rounds, stop);
    const most = Math.min(rounds, kills + A_PLACE);
    while (kills < most && !p.layer.folder.isComplete) {
      const now = await trio();
      if (now !== undefined) {
        // Some when they have hardly begun.
        if (kills % 3 !== 2) await works(p);
        await sleep(Math.random() * 100);
        const victims = VICTIMS[kills % VICTIMS.length] as (keyof Trio)[];
        for (const name of victims) process.kill(now[name], 'SIGKILL');
        kills++;
        await until(`others in place of ${victims}`, async () => {
          if (p.layer.folder.isComplete) return true;
          const next = await trio();
          return next !== undefined && victims.every((name) => next[name] !== now[name]);
        });
      }
      await sleep(5);
    }
    reads += await readers.end();
    assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
    await until('nothing holds what is complete', () => holders() === 0);
    await p.umount();
  }
  t.diagnostic(`${kills} killings, ${reads} reads`);
  assert.ok(reads > rounds, `${reads} reads`);
});

/** Processes that hold for supervisors of this file's runtime folder. */
function holders(): number {
  const own = makeRuntime(process.env, 0).folder;
  return readdirSync('/proc').filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words.some((word) => word.endsWith('supervisor/holder')) && words.includes(own);
    } catch {
      // It has ended, or is no process.
      return false;
    }
  }).length;
}

test('a holder that cannot find its supervisor any more gets that of another installation', {
  skip: requires(KERNEL_WAY),
}, async (t) => {
  const p = await place(t, { chunkSize: 4096 });
  const runtime = makeRuntime(process.env, 0);
  const other = await findSupervisor();
  const { supervisor } = (await other?.ask({ op: 'list' })) ?? {};
  other?.close();
  if (supervisor !== undefined) process.kill(supervisor, 'SIGTERM');
  await until('no other supervisor', () => !existsSync(runtime.socket));
  const program = join(p.folder, 'supervisor.js');
  const installed = new URL('../../bundle/programs/supervisor.js', import.meta.url);
  symlinkSync(fileURLToPath(installed), program);
  const log = openSync(runtime.log, 'a');
  const first = spawn(process.execPath, ['--max-semi-space-size=1', program, runtime.folder], {
    stdio: ['ignore', log, log, 'pipe'],
  });
  closeSync(log);
  await until('it listens', isFound);
  await p.mount(NO_FILL);
  const before = (await trio()) as Trio;
  assert.equal(before.supervisor, first.pid);
  rmSync(program);
  for (const pid of [before.supervisor, before.loader]) process.kill(pid, 'SIGKILL');
  const reader = run('cmp', join(p.tree, 'big'), join(p.mnt, 'big'));
  await until('it says so', () => readFileSync(runtime.log, 'utf8').includes(`${program} is gone`));
  // What it starts to wait a while is it, too, for a moment.
  await until('there is one', () => holders() === 1);
  // Any command.
  await startLoader();
  assert.deepEqual(await reader, { status: 0, stdout: '' });
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await until('nothing holds what is complete', () => holders() === 0);
  await p.umount();
});

test('a mount that nobody keeps from zeros any more is told of', {
  skip: requires(KERNEL_WAY),
}, async (t) => {
  const p = await place(t, { chunkSize: 4096 });
  await p.mount(NO_FILL);
  const isTold = async () => (await unheldMounts((path) => path === p.mnt)).length > 0;
  assert.equal(await isTold(), false);
  const all = Object.values((await trio()) as Trio);
  for (const pid of all) process.kill(pid, 'SIGSTOP');
  for (const pid of all) process.kill(pid, 'SIGKILL');
  await until('they are gone', async () => !(await isFound()));
  // What is being killed has its locks for a moment more.
  await until('it is told', isTold);
  // That it is so is nothing that is wanted, but why it is to be told.
  const zeros = await run('head', '-c', '65536', join(p.mnt, 'big'));
  assert.deepEqual(zeros, { status: 0, stdout: '\0'.repeat(65536) });
  await p.umount();
  await p.mount();
  assert.equal(await isTold(), false);
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await p.umount();
});
