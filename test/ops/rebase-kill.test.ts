// A rebase and its undo are killed before each step that counts, and at random moments: what is left is the old upper or the
// new one, whole, with its index. In CI each step once and a few random kills; `--rounds 200` is the campaign.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { MAIN } from '../cli/cli.js';
import { Random } from '../oracle/random.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { RebaseStack } from './rebase-stack.js';

const kills = campaign('rounds', 2);
const seed = campaign('seed', 1);
const skip = requires({ root: true, features: ['overlayfs', 'tmpfs'], packages: ['strace'] });

class Killing {
  readonly stack: RebaseStack;
  readonly #before: string;
  readonly #after: string;
  readonly #oldInode: number;
  readonly counts = { old: 0, new: 0, refused: 0 };
  longest = 0;

  private constructor(stack: RebaseStack, before: string, after: string, oldInode: number) {
    this.stack = stack;
    this.#before = before;
    this.#after = after;
    this.#oldInode = oldInode;
  }

  /** Does it once and undoes it, without a kill. */
  static async prepare(t: TestContext): Promise<Killing> {
    const stack = new RebaseStack(t, {
      old: 'mkdir d; for i in $(seq 200); do echo $i >d/$i; done; for i in $(seq 20); do ln d/$i l$i; done; mkdir e; echo 1 >e/1',
      ours: 'for i in $(seq 200); do echo ours >>d/$i; done; rm l1 d/2; mv e f; chmod 600 f/1',
      theirs: 'for i in $(seq 201 210); do echo $i >d/$i; done; echo 2 >e/2; chmod 711 d',
    });
    const oldInode = statSync(stack.at('upper')).ino;
    const before = seen(stack, 'old');
    const killing = new Killing(stack, before, '', oldInode);
    const started = performance.now();
    assert.equal(await killing.run([], killing.layers()), 0);
    killing.longest = performance.now() - started;
    const after = seen(stack, 'new');
    assert.notEqual(after, before);
    assert.equal(await killing.run([], ['--undo']), 0);
    assert.equal(seen(stack, 'old'), before);
    return Object.assign(new Killing(stack, before, after, oldInode), { longest: killing.longest });
  }

  layers(): string[] {
    return ['--from', this.stack.at('old'), '--to', this.stack.at('new')];
  }

  /** Whether the new upper is in place. */
  isNew(): boolean {
    return statSync(this.stack.at('upper')).ino !== this.#oldInode;
  }

  /** @param tracer what it is run by. @param patience milliseconds until it is killed. @returns its exit code; null: killed. */
  run(
    tracer: readonly string[],
    args: readonly string[],
    patience = 120_000,
  ): Promise<number | null> {
    const { cli } = this.stack;
    const [program = '', ...rest] = [...tracer, process.execPath, MAIN];
    const flags = ['rebase', '-q', '-o', this.stack.upperOptions(), ...args];
    const child = spawn(program, [...rest, ...flags], {
      ...{ cwd: cli.folder, env: cli.env, stdio: 'ignore' },
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), patience);
    return new Promise((done) => {
      child.once('exit', (code) => {
        clearTimeout(timer);
        done(code);
      });
    });
  }

  /** Looks at what a kill has left, and goes on from there. */
  check(when: string): void {
    const { stack, counts } = this;
    const isNew = this.isNew();
    const lower = isNew ? 'new' : 'old';
    if (readdirSync(stack.at('work/work')).includes('incompat')) {
      counts.refused++;
      const ran = stack.cli.run('mount', '-o', stack.stack(lower), stack.at('mnt'));
      assert.equal(ran.code, 3, `${when}: ${ran.err}`);
      assert.match(ran.err, /rebase --resume/, when);
    }
    const resumed = stack.cli.run('rebase', '--resume', '-o', stack.upperOptions());
    assert.equal(resumed.code, 0, `${when}: ${resumed.err}`);
    assert.equal(this.isNew(), isNew, `${when}: resuming changes nothing that is seen`);
    assert.equal(seen(stack, lower), isNew ? this.#after : this.#before, when);
    const left = readdirSync(stack.cli.folder).filter((name) => name.includes('.before-rebase-'));
    assert.equal(left.length, isNew ? 1 : 0, `${when}: ${left.join()}`);
    counts[lower]++;
  }
}

function seen(stack: RebaseStack, lower: string): string {
  const look = `find . -type f -exec md5sum {} + | sort -k2; find . -printf '%p %m %y %n\\n' | sort | grep -v '^. '`;
  return stack.mounted(lower, () => stack.shell('mnt', look));
}

test('killed before any step that counts', { skip }, async (t) => {
  const killing = await Killing.prepare(t);
  // Before the record is there, while the index is made, before the upper is complete, before it and then its index are exchanged;
  // and the same for the way back, up to the folder's other name.
  const points: (readonly [step: string, n: number] | undefined)[] = [
    ['rename', 1],
    ['linkat', 15],
    ['rename', 2],
    ['renameat2', 2],
    ['renameat2', 3],
    ['renameat2', 1],
    ['renameat2', 2],
    undefined,
    ['rename', 2],
  ];
  for (const point of points) {
    const isNew = killing.isNew();
    const [step, n] = point ?? ['', 0];
    const inject = `inject=${step}:signal=SIGKILL:when=${n}`;
    const trace = ['strace', '-f', '-o', '/dev/null', '-e', 'trace=rename,renameat2,linkat'];
    const args = isNew ? ['--undo'] : killing.layers();
    const code = await killing.run(point === undefined ? [] : [...trace, '-e', inject], args);
    const when = `${isNew ? 'undo' : 'rebase'} at ${step} ${n}`;
    assert.equal(code, point === undefined ? 0 : null, `${when} is where it passes by`);
    killing.check(when);
  }
  t.diagnostic(JSON.stringify(killing.counts));
  assert.equal(killing.counts.refused, 4, 'while the upper and its index may differ');
});

test('killed at any moment', { skip }, async (t) => {
  const killing = await Killing.prepare(t);
  const random = new Random(seed);
  for (let i = 0; i < kills; i++) {
    // The first part of its time a program only starts.
    const moment = killing.longest * (0.3 + random.below(800) / 1000);
    await killing.run([], killing.isNew() ? ['--undo'] : killing.layers(), moment);
    killing.check(`kill ${i} after ${moment} ms`);
  }
  t.diagnostic(JSON.stringify(killing.counts));
});
