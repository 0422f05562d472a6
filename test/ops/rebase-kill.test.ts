// A rebase and its undo are killed at random moments: what is left is the old upper or the new one, whole, with its index.
// In CI a few kills of each; `--rounds 200` is the campaign.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { MAIN } from '../cli/cli.js';
import { Random } from '../oracle/random.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { RebaseStack } from './rebase-stack.js';

const kills = campaign('rounds', 8);
const seed = campaign('seed', 1);
const skip = requires({ root: true, features: ['overlayfs', 'tmpfs'] });

/** Ends a command after a while, as `kill -9` does. @returns whether it had ended before. */
async function runAndKill(stack: RebaseStack, args: string[], after: number): Promise<boolean> {
  const child = spawn(
    process.execPath,
    [MAIN, 'rebase', '-q', '-o', stack.upperOptions(), ...args],
    {
      cwd: stack.cli.folder,
      env: stack.cli.env,
      stdio: 'ignore',
    },
  );
  const timer = setTimeout(() => child.kill('SIGKILL'), after);
  const code = await new Promise<number | null>((done) => child.once('exit', done));
  clearTimeout(timer);
  if (code !== null) assert.equal(code, 0);
  return code !== null;
}

test('killed at any moment, the old upper or the new one is there', { skip }, async (t) => {
  const stack = new RebaseStack(t, {
    old: 'mkdir d; for i in $(seq 400); do echo $i >d/$i; done; for i in $(seq 50); do ln d/$i l$i; done; mkdir e; echo 1 >e/1',
    ours: 'for i in $(seq 400); do echo ours >>d/$i; done; rm l1 d/2; mv e f; chmod 600 f/1',
    theirs: 'for i in $(seq 401 420); do echo $i >d/$i; done; echo 2 >e/2; chmod 711 d',
  });
  const look = `find . -type f -exec md5sum {} + | sort -k2; find . -printf '%p %m %y %n\\n' | sort | grep -v '^. '`;
  const seen = (lower: string): string => stack.mounted(lower, () => stack.shell('mnt', look));
  const layers = ['--from', stack.at('old'), '--to', stack.at('new')];
  const inode = (): number => statSync(stack.at('upper')).ino;
  const oldInode = inode();
  const before = seen('old');
  const started = performance.now();
  assert.equal(await runAndKill(stack, layers, 60_000), true);
  const longest = performance.now() - started;
  const after = seen('new');
  assert.notEqual(after, before);
  assert.equal(await runAndKill(stack, ['--undo'], 60_000), true);
  assert.equal(seen('old'), before);

  const random = new Random(seed);
  const counts = { old: 0, new: 0, refused: 0 };
  for (let i = 0; i < kills; i++) {
    // The first part of its time a program only starts.
    const moment = longest * (0.3 + random.below(800) / 1000);
    const back = inode() !== oldInode;
    await runAndKill(stack, back ? ['--undo'] : layers, moment);
    const isOld = inode() === oldInode;
    if (readdirSync(stack.at('work/work')).includes('incompat')) {
      counts.refused++;
      assert.throws(() => seen(isOld ? 'old' : 'new'), /incompat|wrong fs type|Invalid argument/);
      const resumed = stack.cli.run('rebase', '--resume', '-o', stack.upperOptions());
      assert.equal(resumed.code, 0, resumed.err);
    }
    assert.equal(inode() === oldInode, isOld, 'resuming changes nothing that is seen');
    counts[isOld ? 'old' : 'new']++;
    assert.equal(
      seen(isOld ? 'old' : 'new'),
      isOld ? before : after,
      `kill ${i} after ${moment} ms`,
    );
  }
  t.diagnostic(JSON.stringify({ longest: Math.round(longest), ...counts }));
  stack.cli.run('rebase', '--resume', '-o', stack.upperOptions());
  const left = readdirSync(stack.cli.folder).filter((name) => name.includes('.before-rebase-'));
  assert.equal(left.length, inode() === oldInode ? 0 : 1, left.join());
});
