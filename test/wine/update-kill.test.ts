// An update is killed before each rename that counts: what is left is as it was or as it was to become, and doing it again completes it.
// Wine-free; the killed updates are processes of their own (kill/update.ts).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openConflicts } from '../../src/wine/update/conflicts.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import {
  changeKeys,
  filesOf,
  keysOf,
  NEW_FILES,
  NEW_KEYS,
  recordOf,
  start,
  type UpdatePlace,
  updatePlace,
  writeOwn,
} from './update-place.js';

const VICTIM = fileURLToPath(new URL('./kill/update.js', import.meta.url));
const skip = requires({ root: true });

/** A library with a prefix in it, copied for every kill. */
class Victims {
  readonly place: UpdatePlace;
  readonly #folder: string;

  constructor(folder: string, place: UpdatePlace) {
    this.#folder = folder;
    this.place = place;
  }

  copy(name: string): string {
    const at = join(this.#folder, name);
    const copied = spawnSync('cp', ['-a', '-T', this.place.folder, at], { encoding: 'utf8' });
    assert.equal(copied.status, 0, copied.stderr);
    return at;
  }

  /** Runs an update in a copy. @param words of it, the folder as `@`. @returns the copy, and the names that were given. */
  run(
    name: string,
    words: readonly string[],
    last: number,
  ): { at: string; renames: string[]; killed: boolean } {
    const at = this.copy(name);
    const args = words.map((word) => word.replace('@/', `${at}/`));
    const ran = spawnSync(process.execPath, [VICTIM, ...args, String(last)], {
      env: envOf(at),
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.ok(ran.signal === 'SIGKILL' || ran.status === 0, ran.stderr);
    const renames = ran.stdout.split('\n').filter((line) => line !== '');
    return { at, renames, killed: ran.signal === 'SIGKILL' };
  }
}

const envOf = (at: string): NodeJS.ProcessEnv => ({
  ...process.env,
  VARVE_WINE_DIR: join(at, 'wine'),
});

async function victims(folder: string): Promise<Victims> {
  const place = await updatePlace(join(folder, 'place'));
  const prefix = await place.create('p');
  writeOwn(prefix, { 'windows/both.ini': 'mine', 'windows/same.ini': 'agreed', 'own.txt': 'mine' });
  changeKeys(prefix, { 'Software\\App': { Both: '"mine"', Ours: '"mine"', Same: '"agreed"' } });
  await place.update(place.plain('v2', NEW_FILES, NEW_KEYS));
  return new Victims(folder, place);
}

/** What a prefix is, after its next start. */
async function stateOf(at: string): Promise<unknown> {
  const prefix = join(at, 'wine/prefixes/p');
  await start(prefix, envOf(at));
  const left = readdirSync(join(prefix, '.varve')).filter((name) =>
    name.startsWith('registry.next'),
  );
  return {
    base: recordOf(prefix).base,
    files: await filesOf({ env: envOf(at) }, prefix),
    keys: keysOf(prefix),
    conflicts: openConflicts(prefix).map(({ id, kind }) => `${id} ${kind}`),
    left: left.filter((name) => name === 'registry.next'),
  };
}

/** The first rename, those around the one that makes all valid, one in the midst of putting it into its place, and the last. */
function stepsOf(renames: readonly string[]): number[] {
  const valid = renames.findIndex((name) => name.endsWith('/registry.next'));
  assert.ok(valid > 0);
  const last = renames.length - 1;
  return [0, valid, valid + 1, Math.ceil((valid + 1 + last) / 2), last];
}

for (const [name, words] of [
  ['move', ['move', '@/wine/prefixes/p', 'default@2']],
  ['resolve', ['resolve', '@/wine/prefixes/p']],
] as const) {
  test(`a killed ${name} leaves the prefix as it was, or as it was to become`, {
    skip,
  }, async (t) => {
    const folder = tempDir(t);
    const all = await victims(folder);
    if (name === 'resolve') {
      const { at } = all.run('moved', ['move', '@/wine/prefixes/p', 'default@2'], 1000);
      rmSync(all.place.folder, { recursive: true });
      assert.equal(spawnSync('mv', [at, all.place.folder]).status, 0);
    }
    const before = await stateOf(all.copy('before'));
    const whole = all.run('whole', words, 1000);
    const after = await stateOf(whole.at);
    assert.notDeepEqual(after, before);
    const counts = { before: 0, after: 0, between: 0 };
    for (const step of stepsOf(whole.renames)) {
      const { at, killed } = all.run(`at-${step}`, words, step);
      assert.equal(killed, true, `step ${step}`);
      const state = await stateOf(at);
      const text = JSON.stringify(state);
      if (text === JSON.stringify(before)) counts.before++;
      else if (text === JSON.stringify(after)) counts.after++;
      else {
        // Files that were decided are; the list still has them, and nothing else differs.
        assert.equal(name, 'resolve', `step ${step}: ${text}`);
        counts.between++;
      }
      if (step === 0 || (text !== JSON.stringify(after) && counts.between > 0)) {
        const again = spawnSync(
          process.execPath,
          [VICTIM, ...words.map((word) => word.replace('@/', `${at}/`)), '1000'],
          {
            env: envOf(at),
            encoding: 'utf8',
          },
        );
        assert.equal(again.status, 0, again.stderr);
        assert.deepEqual(await stateOf(at), after, `step ${step}, done again`);
      }
      rmSync(at, { recursive: true });
    }
    t.diagnostic(JSON.stringify(counts));
    assert.deepEqual([counts.before + counts.between, counts.after], [2, 3]);
  });
}

test('a killed new version is none, or is there and not yet the current one', {
  skip,
}, async (t) => {
  const folder = tempDir(t);
  const all = await victims(folder);
  all.place.plain('v3', NEW_FILES, NEW_KEYS);
  const words = ['version', '@/v3'];
  const whole = all.run('whole', words, 1000);
  assert.equal(readlinkSync(join(whole.at, 'wine/bases/default/current')), '3');
  for (const step of [...whole.renames.keys()].slice(-2)) {
    const { at, killed } = all.run(`at-${step}`, words, step);
    assert.equal(killed, true);
    assert.equal(readlinkSync(join(at, 'wine/bases/default/current')), '2');
    const again = spawnSync(process.execPath, [VICTIM, 'version', join(at, 'v3'), '1000'], {
      env: envOf(at),
      encoding: 'utf8',
    });
    assert.equal(again.status, 0, again.stderr);
    const current = readlinkSync(join(at, 'wine/bases/default/current'));
    assert.match(
      readFileSync(join(at, `wine/bases/default/${current}/base.json`), 'utf8'),
      /"digest"/,
    );
    assert.deepEqual(
      readdirSync(join(at, 'wine')).sort(),
      ['bases', 'prefixes'],
      'nothing is left',
    );
  }
});
