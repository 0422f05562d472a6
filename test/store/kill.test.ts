// A store is whole after SIGKILL at any moment of adding, naming and collecting, by two processes at a time.
// In CI 12 kills; `npm test -- --rounds 500 store/kill` for a long run, --seed for another one.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { checkStore } from '../../src/store/check.js';
import { collectGarbage } from '../../src/store/gc.js';
import { listRefs } from '../../src/store/images.js';
import { campaign } from '../support/campaign.js';
import { tempDir } from '../support/temp.js';
import { makeStore, noise, writeFiles } from './stores.js';

const VICTIM = fileURLToPath(new URL('kill/main.js', import.meta.url));
const rounds = campaign('rounds', 12);
const seed = campaign('seed', 1);

test('a store is whole after every kill', async (t) => {
  const store = makeStore(t);
  const sources = tempDir(t);
  for (let i = 0; i < 5; i++) {
    const files: Record<string, Buffer> = {};
    // Trees that share half of their files.
    for (let k = 0; k < 60; k++)
      files[`d${k % 7}/${k}`] = noise(k % 2 ? k : 1000 * i + k, 50 + k * 97);
    writeFiles(join(sources, `${i}`), files);
  }
  let state = seed >>> 0;
  let named = 0;
  for (let round = 0; round < rounds; round++) {
    const victims = [0, 1].map((k) => {
      const args = [VICTIM, store.path, sources, String(seed * 1000 + round * 2 + k)];
      return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    });
    const ended = victims.map((victim) => once(victim, 'exit'));
    await Promise.all(
      victims.map((victim) => once(victim.stdout as NodeJS.ReadableStream, 'data')),
    );
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    await sleep(state % 300);
    for (const victim of victims) victim.kill('SIGKILL');
    for (const [code, signal] of await Promise.all(ended)) {
      assert.equal(signal, 'SIGKILL', `round ${round}: a victim ended by itself, code ${code}`);
    }
    const faults = async () => (await checkStore(store, { threads: 1 })).faults;
    assert.deepEqual(await faults(), [], `round ${round}, seed ${seed}`);
    if (round % 3 === 0) {
      collectGarbage(store);
      assert.deepEqual(await faults(), [], `round ${round}, seed ${seed}, after gc`);
    }
    named += listRefs(store).length;
  }
  assert.ok(named > 0, 'the victims did something');
});
