// Readers of a layer that our server shows, while its loader, the server or both are killed again and again: they wait, and read what is right.
// Under test: src/lazy/client.ts (a new loader is told everything), supervisor/{loader,mount,spare}.ts. `--rounds 200` for a campaign.
// A reader that gets zeros, an error or anything else than the tree has, or that nobody answers, is a failure.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { campaign } from '../support/campaign.js';
import { killProcess } from '../support/processes.js';
import { requires } from '../support/requires.js';
import { makeTempDir } from '../support/temp.js';
import { fusePlace, waitsFor } from './fuse-place.js';
import { loaderPid, run } from './kernel-place.js';
import { Readers, works } from './readers.js';

const READERS = 3;
const rounds = campaign('rounds', 12);
/** Kills before another layer takes its turn: of one that is all here there is nothing to be killed. */
const A_PLACE = 40;

const skip = requires({ root: true });
const SAME = { status: 0, stdout: '' };

/** Kills a process, once. @returns whether there was one. */
async function kill(
  find: () => Promise<number | undefined>,
  killed: Set<number>,
): Promise<boolean> {
  const pid = await find();
  if (pid === undefined || pid === 0 || killed.has(pid) || !killProcess(pid)) return false;
  killed.add(pid);
  return true;
}

/** @param victims who dies at the kill of this number. */
async function killUnder(
  t: TestContext,
  victims: (kills: number) => { readonly loader: boolean; readonly server: boolean },
): Promise<void> {
  let kills = 0;
  let servers = 0;
  let reads = 0;
  for (let tries = 0; kills < rounds; tries++) {
    assert.ok(tries < rounds, `${kills} kills`);
    const p = await fusePlace(t, { chunkSize: 4096, big: 24 << 20 });
    p.tell('latency', '5');
    await p.mountFuse('fill=off');
    const stop = join(makeTempDir(), 'stop');
    t.after(() => writeFileSync(stop, ''));
    const readers = new Readers(p, READERS, 170 + 2 * rounds, stop);
    const most = Math.min(rounds, kills + A_PLACE);
    const killed = new Set<number>();
    while (kills < most && !p.layer.folder.isComplete) {
      // Some are killed before they have taken over, most while they answer.
      if (kills % 4 !== 3) await works(p);
      await sleep(Math.random() * 100);
      const { loader, server } = victims(kills);
      const hasLoader = loader && (await kill(loaderPid, killed));
      const hasServer = server && (await kill(p.server, killed));
      if (hasServer) servers++;
      if (hasLoader || hasServer) kills++;
      else await sleep(5);
    }
    reads += await readers.end();
    assert.deepEqual(await run('diff', '-r', p.tree, p.mnt), SAME);
    await waitsFor(p, 0);
    await p.unmountFuse();
  }
  t.diagnostic(`${kills} kills, ${servers} of servers, ${reads} reads`);
  assert.ok(reads > rounds, `${reads} reads`);
}

test('no reader notices that its loader was killed', { skip }, async (t) => {
  await killUnder(t, () => ({ loader: true, server: false }));
});

test('nor that its server was, or both at once', { skip }, async (t) => {
  await killUnder(t, (kills) => ({ loader: kills % 3 !== 0, server: kills % 3 !== 1 }));
});
