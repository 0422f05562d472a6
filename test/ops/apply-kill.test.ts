// An apply that is killed at any point leaves the old tree or the new one, once it was recovered; so do kills of the recovery.
// In CI a few kills; `npm test -- --rounds 200 ops/apply-kill` for a long run, --seed for another one.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { recoverApply } from '../../src/ops/apply/apply.js';
import { applyFolders } from '../../src/stack/pending-apply.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { extractTree } from '../../src/tree/extract.js';
import { scan } from '../../src/tree/scan.js';
import { makeFilesystems } from '../oracle/explore.js';
import { Random } from '../oracle/random.js';
import { run } from '../overlay/stack.js';
import { campaign } from '../support/campaign.js';
import { mountLoop } from '../support/loop.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { growStacks, throughKernel } from './stacks.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'loop', 'ext4', 'tmpfs'],
  packages: ['e2fsprogs'],
});

const skipCrash =
  skip || requires({ root: true, features: ['ext4', 'loop'], packages: ['e2fsprogs', 'xfsprogs'] });

const VICTIM = fileURLToPath(new URL('kill/main.js', import.meta.url));
const rounds = campaign('rounds', 6);
const seed = campaign('seed', 1);

interface End {
  readonly wasKilled: boolean;
  readonly steps: number;
  readonly milliseconds: number;
}

/** @param after milliseconds from its beginning; undefined: it kills itself, or nobody does. */
async function victim(args: readonly (string | number)[], after?: number): Promise<End> {
  const child = spawn(process.execPath, [VICTIM, ...args.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  let began = performance.now();
  child.stdout.setEncoding('utf8');
  const ended = once(child, 'close');
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', (part: string) => {
      if (text === '') {
        began = performance.now();
        resolve();
      }
      text += part;
    });
    child.once('close', () => resolve());
  });
  await ready;
  if (after !== undefined) {
    await sleep(after);
    child.kill('SIGKILL');
  }
  const [code, signal] = (await ended) as [number | null, string | null];
  assert.ok(signal === 'SIGKILL' || code === 0, `the victim ended by itself, code ${code}`);
  const steps = Number(text.split('\n')[1] ?? 0);
  return { wasKilled: signal !== null, steps, milliseconds: performance.now() - began };
}

function copy(from: string, to: string): void {
  spawnSync('rm', ['-rf', to]);
  const { status, stderr } = spawnSync('cp', ['-a', from, to], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

function differs(expected: string, actual: string): string {
  const [a, b] = [scan(expected), scan(actual)];
  try {
    return showDifferences(compareTrees(a.root, b.root));
  } finally {
    a.close();
    b.close();
  }
}

test('an apply that was killed leaves the old tree or the new one', { skip }, async (t) => {
  const folder = tempDir(t);
  const filesystems = makeFilesystems(folder);
  const [stack] = growStacks(seed * 2, 1, rounds > 20 ? 600 : 200, filesystems);
  assert.ok(stack);
  const [old] = stack.lowers as [string];
  const wanted = join(filesystems.ext4, 'wanted');
  throughKernel(stack, ({ root }) => extractTree(root, wanted));
  assert.notEqual(differs(old, wanted), '', 'the upper changes something');
  // On one filesystem, so that files can be moved as well.
  const [lower, upper] = [join(filesystems.ext4, 'l'), join(filesystems.ext4, 'u')];
  const again = (): void => {
    copy(old, lower);
    copy(stack.upper, upper);
  };
  again();
  const whole = await victim(['apply', upper, lower, 1e9]);
  assert.equal(differs(wanted, lower), '', 'an apply that nobody killed');
  const random = new Random(seed);
  const seen = { old: 0, new: 0, finished: 0, undone: 0 };
  /** What the kill left. */
  const found = { nothing: 0, staging: 0, taking: 0, putting: 0, setting: 0, cleaning: 0 };
  for (let round = 0; round < rounds; round++) {
    again();
    const step = random.below(whole.steps);
    if (round % 2 === 0) await victim(['apply', upper, lower, step]);
    else {
      const after = Math.round((random.below(1000) / 1000) * (whole.milliseconds + 20));
      await victim(['apply', upper, lower, 1e9 + round], after);
    }
    const what = `seed ${seed}, round ${round}`;
    found[stateOf(lower)]++;
    // Half of the time the recovery is killed as well, and it may have been told to go back.
    const undo = random.oneIn(3) ? ['undo'] : [];
    if (random.oneIn(2)) {
      const killed = ['recover', lower, random.below(whole.steps)];
      await recovered(lower, () => victim([...killed, ...undo]));
    }
    const result = recoverApply(lower);
    if (result !== 'none') seen[result]++;
    for (const left of applyFolders(lower)) assert.ok(!existsSync(left), `${what}: ${left}`);
    const isOld = differs(old, lower) === '';
    const difference = isOld ? '' : differs(wanted, lower);
    assert.equal(difference, '', `${what} (${result}): neither the old nor the new tree`);
    seen[isOld ? 'old' : 'new']++;
    if (round % 10 === 9)
      console.log(`${round + 1} rounds: ${JSON.stringify({ ...seen, ...found })}`);
    if (isOld) assert.equal(differs(stack.upper, upper), '', `${what}: the upper is as it was`);
    else if (result === 'finished') {
      assert.equal(spawnSync('ls', ['-A', upper], { encoding: 'utf8' }).stdout, '', what);
    }
  }
  t.diagnostic(JSON.stringify({ ...seen, ...found }));
  assert.ok(seen.finished > 0, 'some were finished');
});

test('a machine that stops in the middle has the old tree or the new one', {
  skip: skipCrash,
}, async (t) => {
  const filesystems = makeFilesystems(tempDir(t));
  const [stack] = growStacks(seed * 2, 1, 200, filesystems);
  assert.ok(stack);
  const [old] = stack.lowers as [string];
  const at = (name: string): string => join(filesystems.tmpfs, name);
  throughKernel(stack, ({ root }) => extractTree(root, at('wanted')));
  copy(old, at('old'));
  // With a journal, other than those of the oracle; in memory.
  run('truncate', ['-s', '300M', at('image')]);
  run('mkfs.ext4', ['-q', '-m', '0', at('image')]);
  mkdirSync(at('disk'));
  const attach = (): void => mountLoop(at('image'), at('disk'));
  attach();
  // The upper is elsewhere: it must not be empty before the tree is on disk.
  const [lower, upper] = [join(at('disk'), 'l'), at('upper')];
  const again = (): void => {
    copy(at('old'), lower);
    copy(stack.upper, upper);
    run('sync', ['-f', at('disk')]);
  };
  again();
  const { steps } = await victim(['apply', upper, lower, 1e9]);
  const random = new Random(seed);
  const seen = { old: 0, new: 0 };
  for (let round = 0; round < rounds; round++) {
    again();
    // Beyond the last one: all is done, and nobody has synced anything since.
    await victim(['apply', upper, lower, round === 0 ? 1e9 : random.below(steps)]);
    const flushes = random.oneIn(2);
    run('xfs_io', ['-x', '-c', flushes ? 'shutdown -f' : 'shutdown', at('disk')]);
    run('umount', [at('disk')]);
    attach();
    const result = recoverApply(lower);
    const what = `seed ${seed}, round ${round} (${result}, log ${flushes ? 'flushed' : 'lost'})`;
    for (const left of applyFolders(lower)) assert.ok(!existsSync(left), `${what}: ${left}`);
    const isOld = differs(at('old'), lower) === '';
    if (isOld) assert.equal(differs(stack.upper, upper), '', `${what}: the upper is as it was`);
    else
      assert.equal(differs(at('wanted'), lower), '', `${what}: neither the old nor the new tree`);
    seen[isOld ? 'old' : 'new']++;
    if (round % 10 === 9) console.log(`${round + 1} rounds: ${JSON.stringify(seen)}`);
  }
  run('umount', [at('disk')]);
  t.diagnostic(JSON.stringify(seen));
});

function stateOf(
  lower: string,
): 'nothing' | 'staging' | 'taking' | 'putting' | 'setting' | 'cleaning' {
  const folder = applyFolders(lower).find((path) => existsSync(path));
  const has = (name: string): boolean => existsSync(join(folder as string, name));
  if (folder === undefined) return 'nothing';
  if (has('done')) return 'cleaning';
  if (!has('journal')) return 'staging';
  if (has('put')) return 'setting';
  return has('taken') ? 'putting' : 'taking';
}

/** A recovery that goes back after all was done says so: that is no failure. */
async function recovered(lower: string, run: () => Promise<unknown>): Promise<void> {
  if (applyFolders(lower).some((path) => existsSync(path))) await run();
}
