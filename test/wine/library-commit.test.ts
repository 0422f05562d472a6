// A prefix's changes become a layer: the same is shown before, afterwards, and wherever the commit is cut off.
// Wine-free; the killed commits are processes of their own (kill/main.ts).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { S } from '../../src/linux/constants.js';
import { commitPrefix } from '../../src/wine/library/commit.js';
import { createPrefix } from '../../src/wine/library/create.js';
import { putLayer } from '../../src/wine/library/put.js';
import { harvest } from '../../src/wine/prefix/materialise.js';
import { isEmpty } from '../../src/wine/registry/delta.js';
import { requires } from '../support/requires.js';
import { AT, must, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { keysOf, type Place, shown, withBase, writeOwn } from './library-place.js';

const VICTIM = fileURLToPath(new URL('./kill/main.js', import.meta.url));

/** A prefix with files, a deletion and keys of its own, as a session leaves it. */
async function changed(place: Place, prefix: string): Promise<string> {
  const { folder } = await createPrefix({ prefix, base: 'default', layers: [], env: place.env });
  writeOwn(folder, 'App/app.exe', 'app');
  writeOwn(folder, 'Program Files/mine.txt', 'mine');
  writeOwn(folder, 'windows/system32/kernel32.dll', 'builtin');
  must(sys.mknod(AT.FDCWD, join(folder, 'drive_c/Program Files/readme.txt'), S.IFCHR, 0));
  writeKey(folder, 'Own', 'yes');
  return folder;
}

/** As wineserver does: the whole file, by a rename. */
function writeKey(folder: string, name: string, value: string): void {
  const path = join(folder, 'system.reg');
  const key = `\n[Software\\\\Stub\\\\${name}] 1700000000\n#time=1da1a2b3c4d5e6f\n"v"="${value}"\n`;
  writeFileSync(`${path}.tmp`, readFileSync(path, 'latin1') + key, 'latin1');
  renameSync(`${path}.tmp`, path);
}

const commit = (place: Place, prefix: string, layer: string): ReturnType<typeof commitPrefix> =>
  commitPrefix({ prefix, layer, keepNoise: false, env: place.env });

test('what a prefix has changed becomes a layer, and the prefix shows the same over it', async (t) => {
  const place = await withBase(tempDir(t));
  const folder = await changed(place, 'p');
  const before = await shown(place, folder);
  const done = await commit(place, 'p', 'mine');
  assert.equal(await shown(place, folder), before);
  assert.deepEqual(readdirSync(join(folder, 'drive_c')), []);
  assert.ok(isEmpty(harvest(folder)));
  assert.deepEqual(keysOf(folder), { Own: 'yes' });
  assert.equal(readFileSync(join(done.path, 'drive_c/App/app.exe'), 'utf8'), 'app');
  // The same as the base has.
  assert.equal(existsSync(join(done.path, 'drive_c/windows')), false);
  const manifest = JSON.parse(readFileSync(join(done.path, 'layer.json'), 'utf8'));
  assert.deepEqual([manifest.base, manifest.pending], ['default@1', undefined]);
  await assert.rejects(commit(place, 'p', 'again'), /has changed nothing/);
  await assert.rejects(commit(place, 'p', 'mine'), /layer mine: is there already/);

  const other = await createPrefix({ prefix: 'q', base: 'default', layers: [], env: place.env });
  await putLayer('q', 'mine', undefined, place.env);
  assert.equal(await shown(place, other.folder), before);

  writeOwn(folder, 'App/more', 'more');
  writeKey(folder, 'Second', '2');
  const second = await shown(place, folder);
  await commit(place, 'p', 'second');
  assert.equal(await shown(place, folder), second);
  const record = JSON.parse(readFileSync(join(folder, '.varve/prefix.json'), 'utf8'));
  assert.deepEqual(record.layers, ['second', 'mine']);
});

test('a commit that is killed leaves the same to be seen, and is completed by the next', async (t) => {
  const place = await withBase(tempDir(t));
  const model = await changed(place, join(place.folder, 'model'));
  const before = await shown(place, model);
  const kill = (folder: string, layer: string, step: number): ReturnType<typeof spawnSync> =>
    spawnSync(process.execPath, [VICTIM, folder, layer, String(step)], {
      env: place.env,
      encoding: 'utf8',
    });
  let steps = 1;
  for (let step = 0; step < steps; step++) {
    // Used meanwhile: where the layer has its name and not yet its files.
    for (const isUsed of step >= 1 && step <= 3 ? [false, true] : [false]) {
      const folder = join(place.folder, `p${step}${isUsed ? 'u' : ''}`);
      // Preserved times and modes; devices are beyond cpSync.
      assert.equal(spawnSync('cp', ['-a', model, folder]).status, 0);
      const layer = `layer-${step}${isUsed ? 'u' : ''}`;
      const victim = kill(folder, layer, step);
      assert.equal(victim.signal, 'SIGKILL', `${step}: ${victim.stderr}`);
      assert.equal(await shown(place, folder), before, `killed before step ${step}`);
      if (isUsed) {
        const other = createPrefix({
          prefix: 'other',
          base: 'default',
          layers: [layer],
          env: place.env,
        });
        await assert.rejects(other, /its commit was cut off/);
      }
      let wanted = before;
      if (isUsed) {
        writeOwn(folder, 'since.txt', 'since');
        writeKey(folder, 'Since', '1');
        wanted = await shown(place, folder);
      }
      const again = kill(folder, layer, 99);
      const path = join(place.root, 'layers', layer);
      // The layer had everything; only what came after it is left, or nothing.
      if (again.status !== 0) {
        assert.match(String(again.stderr), /is there already/, `step ${step}`);
        assert.equal(JSON.parse(readFileSync(join(path, 'layer.json'), 'utf8')).pending, undefined);
      } else steps = Math.max(steps, Number(again.stdout));
      assert.equal(await shown(place, folder), wanted, `completed after step ${step}`);
      assert.equal(readFileSync(join(path, 'drive_c/App/app.exe'), 'utf8'), 'app');
      assert.deepEqual(keysOf(folder), isUsed ? { Own: 'yes', Since: '1' } : { Own: 'yes' });
      if (!isUsed) {
        harvest(folder);
        assert.deepEqual(readdirSync(join(folder, 'drive_c')), []);
      }
    }
  }
  assert.equal(steps, 6);
});

test('a prefix on another filesystem is committed by a copy', {
  skip: requires({ root: true, features: ['tmpfs'] }),
}, async (t) => {
  const place = await withBase(tempDir(t));
  const far = join(place.folder, 'far');
  mkdirSync(far);
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', far]).status, 0);
  const folder = await changed(place, join(far, 'p'));
  assert.notEqual(statSync(folder).dev, statSync(place.root).dev);
  const before = await shown(place, folder);
  const { path } = await commit(place, folder, 'mine');
  assert.equal(await shown(place, folder), before);
  assert.deepEqual(readdirSync(join(folder, 'drive_c')), []);
  assert.equal(readFileSync(join(path, 'drive_c/App/app.exe'), 'utf8'), 'app');
  assert.equal(existsSync(join(folder, '.varve/emptied')), false);
});
