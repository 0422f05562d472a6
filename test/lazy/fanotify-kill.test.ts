// Readers of a layer that the kernel has mounted, while its loader is killed again and again: they wait, and read what is right.
// Under test: src/lazy/fanotify/ (what was in hand is the successor's), supervisor/loader.ts. `--rounds 200` for a campaign.
// A reader that gets zeros, an error or anything else than the tree has is a failure.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findSupervisor } from '../../src/supervisor/client.js';
import { campaign } from '../support/campaign.js';
import { killProcess } from '../support/processes.js';
import { requires } from '../support/requires.js';
import { KERNEL_WAY, loaderPid, NO_FILL, place, run, until } from './kernel-place.js';
import { Readers, works } from './readers.js';

const READERS = 4;
const rounds = campaign('rounds', 20);
/** Kills before another layer takes its turn. */
const A_PLACE = 40;

test('no reader notices that its loader was killed', { skip: requires(KERNEL_WAY) }, async (t) => {
  let kills = 0;
  let reads = 0;
  for (let tries = 0; kills < rounds; tries++) {
    assert.ok(tries < rounds, `${kills} kills`);
    const p = await place(t, { chunkSize: 4096, big: 24 << 20 });
    p.tell('latency', '5');
    await p.mount(NO_FILL);
    const stop = join(p.folder, 'stop');
    const readers = new Readers(p, READERS, 170 + rounds, stop);
    // Before the readers have had all that they can read: a killing without anything in hand shows nothing.
    const most = Math.min(rounds, kills + A_PLACE);
    for (let last: number | undefined; kills < most && !p.layer.folder.isComplete; ) {
      const pid = await loaderPid();
      if (pid !== undefined && pid !== last) {
        // Some are killed before they have taken over, most while they answer.
        if (kills % 4 !== 3) await works(p);
        await sleep(Math.random() * 100);
        if (killProcess(pid)) kills++;
        last = pid;
      }
      await sleep(5);
    }
    reads += await readers.end();
    assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
    await p.umount();
  }
  t.diagnostic(`${kills} kills, ${reads} reads`);
  assert.ok(reads > rounds, `${reads} reads`);
});

test('nor that supervisor and loader were told to end', {
  skip: requires(KERNEL_WAY),
}, async (t) => {
  const p = await place(t, { chunkSize: 4096 });
  await p.mount(NO_FILL);
  const supervisor = await findSupervisor();
  const reply = await supervisor?.ask({ op: 'list' });
  supervisor?.close();
  process.kill(reply?.supervisor as number, 'SIGTERM');
  // The request that the loader ends with is on its way when the supervisor has heard.
  await sleep(300);
  p.tell('latency', '200');
  const reader = run('cmp', join(p.tree, 'big'), join(p.mnt, 'big'));
  await until('it works', () => p.requests() > 0);
  process.kill((await loaderPid()) as number, 'SIGTERM');
  await sleep(300);
  p.tell('latency');
  assert.deepEqual(await reader, { status: 0, stdout: '' });
  assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), { status: 0, stdout: '' });
  await p.umount();
});
