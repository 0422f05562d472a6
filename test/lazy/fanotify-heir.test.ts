// Readers of a layer that the kernel has mounted, while any two of those three are killed that could keep it from reading zeros:
// supervisor, loader, holder. Under test: src/supervisor/holder.ts, bequest.ts, supervisor.ts as an heir. `--rounds 200` for a campaign.
// A reader that gets zeros, an error or anything else than the tree has is a failure, and so is one that waits for ever.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findSupervisor } from '../../src/supervisor/client.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { KERNEL_WAY, NO_FILL, place, run, until } from './kernel-place.js';
import { Readers, works } from './readers.js';

const READERS = 4;
const rounds = campaign('rounds', 7);
/** Killings before another layer takes its turn. */
const A_PLACE = 35;

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

const VICTIMS: readonly (readonly (keyof Trio)[])[] = [
  ['supervisor', 'loader'],
  ['loader', 'supervisor'],
  ['supervisor'],
  ['holder'],
  ['loader', 'holder'],
  ['supervisor', 'loader'],
  ['supervisor', 'holder'],
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
    await p.umount();
  }
  t.diagnostic(`${kills} killings, ${reads} reads`);
  assert.ok(reads > rounds, `${reads} reads`);
});
