// Programs at work on a mount whose upper is frozen again and again, and whose servers and committing clients are killed:
// they see no error, the layers stay as they were, the kernel's overlayfs sees what the mount showed.
// In CI a few rounds; `--rounds 100` is the campaign. fsx runs where it is on PATH.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findSupervisor } from '../../src/supervisor/client.js';
import { pattern } from '../oracle/layers.js';
import { Random } from '../oracle/random.js';
import { differences } from '../oracle/tree.js';
import { stack } from '../overlay/stack.js';
import { killWhileWorking, type Load } from '../restart/campaign.js';
import { campaign } from '../support/campaign.js';
import { killProcess } from '../support/processes.js';
import { requires } from '../support/requires.js';
import { digest, startVarve, varve } from './frozen.js';

const rounds = campaign('rounds', 6);
const seed = campaign('seed', 1);
const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'resend'],
  packages: ['sqlite3', 'git'],
});

/** Kills the next server of a mount so many milliseconds after it was given its descriptors. */
async function killSuccessor(mountpoint: string, after: number): Promise<void> {
  const supervisor = await findSupervisor();
  assert.ok(supervisor !== undefined);
  const pid = async (): Promise<number> =>
    (await supervisor.ask({ op: 'status', mountpoint })).mounts?.[0]?.pid ?? 0;
  const before = await pid();
  for (const end = Date.now() + 5000; Date.now() < end; await sleep(1)) {
    const now = await pid();
    if (now === before || now === 0) continue;
    await sleep(after);
    killProcess(now);
    break;
  }
  supervisor.close();
}

test('programs go on while layers are made under them', { skip }, async (t) => {
  const s = await stack(t, { lowers: [{}], size: '1g', unmounted: true });
  const lower = s.lowers[0] as string;
  for (let i = 0; i < 60; i++) {
    mkdirSync(join(lower, 'repo', `d${i % 6}`), { recursive: true });
    mkdirSync(join(lower, 'tree', `e${i % 5}`), { recursive: true });
    writeFileSync(join(lower, 'repo', `d${i % 6}`, `f${i}`), pattern(i, 300 + i * 60));
    writeFileSync(join(lower, 'tree', `e${i % 5}`, `f${i}`), pattern(i, (i * 337) % 20_000));
  }
  const git =
    'git init -q -b main; git add --all; git -c user.name=t -c user.email=t@example.org commit -qm first';
  assert.equal(spawnSync('sh', ['-ec', git], { cwd: join(lower, 'repo') }).status, 0);
  await s.mount();
  const on = (kind: string, source?: string): Load => ({
    ...{ kind, folder: s.path(`work-${kind}`) },
    ...(source === undefined ? {} : { source: s.path(source) }),
  });
  const loads = [on('file'), on('names'), on('sqlite'), on('git', 'repo'), on('tar', 'tree')];
  if (spawnSync('sh', ['-c', 'command -v fsx']).status === 0) loads.push(on('fsx'));

  const random = new Random(seed);
  const layers = new Map<string, string>();
  const lowers = [...s.lowers];
  let failed = 0;
  const noteLayers = (): void => {
    for (const name of readdirSync(s.base).filter((each) => /^c\d+$/.test(each))) {
      const path = join(s.base, name);
      // The command may have been killed before it had begun, or left an empty directory.
      if (layers.has(path) || readdirSync(path).length === 0) continue;
      const status = JSON.parse(varve('status', '--json', s.mnt).out) as {
        layers: { lowerdirs: string[] };
      };
      lowers.splice(0, lowers.length, ...status.layers.lowerdirs);
      assert.equal(lowers[0], path, 'the last layer is the topmost');
      layers.set(path, digest(s, path));
    }
  };
  let n = 0;
  const outcome = await killWhileWorking({
    ...{ mountpoint: s.mnt, loads, kills: rounds, seed, base: s.base, longestPause: 300 },
    disturb: async () => {
      const command = startVarve('commit', '--quiet', s.mnt, '--into', join(s.base, `c${n++}`));
      // Now and then it is killed on the way; what it asked for is done, or not at all.
      if (random.oneIn(4)) setTimeout(() => command.kill(), random.below(600));
      // Or the server that makes the change, in the middle of it.
      else if (random.oneIn(2)) void killSuccessor(s.mnt, random.below(30));
      const { code, err } = await command;
      // A sign of life: a long campaign tells nothing else.
      process.stderr.write('.');
      if (code !== 0) failed++;
      if (code !== 0 && code !== null) assert.match(err, /try again|is starting or ending/, err);
      await sleep(200);
      noteLayers();
    },
  });
  t.diagnostic(JSON.stringify({ ...outcome, layers: layers.size, failed }));
  for (const [kind, count] of Object.entries(outcome.rounds))
    assert.ok(count > 0, `${kind} did nothing`);
  assert.ok(layers.size > 0, 'no layer was made');
  for (const [path, before] of layers) assert.equal(digest(s, path), before, path);

  const check = spawnSync(
    'sh',
    ['-ec', 'sqlite3 work-sqlite/data.db "PRAGMA integrity_check"; diff -r tree work-tar/one'],
    { cwd: s.mnt, encoding: 'utf8' },
  );
  assert.equal(check.stdout, 'ok\n', check.stderr);
  s.place(...lowers);
  s.serverChanged();
  const shown = s.tree();
  await s.sameToKernel();
  await s.mount();
  assert.deepEqual(differences(s.tree(), shown), []);
  assert.ok(!existsSync(join(s.work, 'work', '#freeze-list')));
});
