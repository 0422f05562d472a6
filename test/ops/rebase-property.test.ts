// Random trees are changed on a mount, their lowers elsewhere, and the upper is rebased. Where both sides have edited different
// names, nothing is said and the mount shows what the naive merge of three trees in memory says. Where they have edited the same,
// every byte that either has written is still there. In CI a few rounds; `--rounds 500` is the campaign.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type RebaseReport, rebase } from '../../src/ops/rebase/rebase.js';
import { cliIn } from '../cli/cli.js';
import { Random } from '../oracle/random.js';
import { run } from '../overlay/stack.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { untilFree } from '../support/subjects.js';
import { tempDir } from '../support/temp.js';
import { Editor, type Names, naiveMerge, type Told, tell } from './rebase-world.js';

const rounds = campaign('rounds', 8);
const seed = campaign('seed', 1);
const skip = requires({ root: true, features: ['fuse', 'overlayfs', 'tmpfs'] });

const SHARED = ['s0', 's1', 's2'];
const OURS: Names = { folders: SHARED, own: ['o0', 'o1', 'o2'] };
const THEIRS: Names = { folders: SHARED, own: ['t0', 't1', 't2'] };
const ALL: Names = { folders: ['a', 'b'], own: ['a', 'b', 'c', 'd'] };

const OPTIONS = [
  'redirect_dir=on,metacopy=on,index=on',
  'redirect_dir=on,metacopy=off,index=off',
  'redirect_dir=off,metacopy=off,index=on',
];

/** A stack of which both sides are edited; `mount` as the kernel or varve does it. */
class World {
  readonly random: Random;
  readonly options: string;
  readonly at: (name: string) => string;
  readonly steps: string[] = [];
  readonly #number: number;
  readonly #folder: string;
  readonly #varve: boolean;
  readonly #run: ReturnType<typeof cliIn>['run'];

  constructor(folder: string, number: number, run: ReturnType<typeof cliIn>['run']) {
    this.random = new Random(seed * 100_000 + number);
    this.options = OPTIONS[number % OPTIONS.length] as string;
    // Starting a server takes longer than all the rest.
    this.#varve = number % 12 === 5;
    this.#number = number;
    this.#folder = folder;
    this.#run = run;
    this.at = (name) => join(folder, name);
    for (const name of ['old', 'new', 'upper', 'work', 'mnt']) mkdirSync(this.at(name));
  }

  #mount(lower: string): void {
    const layers = `lowerdir=${this.at(lower)},upperdir=${this.at('upper')},workdir=${this.at('work')}`;
    untilFree(() => this.#mountOnce(layers));
  }

  #mountOnce(layers: string): void {
    if (this.#varve) {
      const ran = this.#run(
        'mount',
        '--backend=fuse',
        '-o',
        `${layers},${this.options}`,
        this.at('mnt'),
      );
      assert.equal(ran.code, 0, ran.err);
    } else run('mount', ['-t', 'overlay', 'o', '-o', `${layers},${this.options}`, this.at('mnt')]);
  }

  #unmount(): void {
    if (this.#varve) untilFree(() => this.#unmountOnce());
    else run('umount', [this.at('mnt')]);
  }

  #unmountOnce(): void {
    const ran = this.#run('umount', this.at('mnt'));
    // Somebody else's namespace, or a program that looks at all mounts.
    if (ran.code !== 0) throw new Error(`${ran.err}: in use by another mount`);
  }

  /** What the stack shows over `lower`, after `act`. */
  mounted(lower: string, act: (mount: string) => void = () => {}): Told {
    this.#mount(lower);
    try {
      act(this.at('mnt'));
      return tell(this.at('mnt'));
    } finally {
      this.#unmount();
    }
  }

  edit(editor: Editor, root: string, count: number): void {
    for (let i = 0; i < count; i++) {
      const step = editor.edit(root);
      if (step !== '') this.steps.push(`${root === this.at('mnt') ? 'ours' : 'theirs'}: ${step}`);
    }
  }

  async rebase(): Promise<RebaseReport> {
    for (let i = 0; ; i++) {
      try {
        return await this.#rebaseOnce();
      } catch (error) {
        // As in untilFree().
        if (i === 60 || !String(error).includes('in use by')) throw error;
      }
    }
  }

  #rebaseOnce(): Promise<RebaseReport> {
    return rebase({
      options: [`upperdir=${this.at('upper')},workdir=${this.at('work')},${this.options}`],
      from: this.at('old'),
      to: this.at('new'),
      conflict: 'both',
      lines: false,
      discard: false,
      dryRun: false,
      onProgress: () => {},
    });
  }

  copy(from: string, to: string): void {
    run('cp', ['-a', '-T', this.at(from), this.at(to)]);
  }

  /** What no longer fits; asked now and then, for it takes longer than the rest of a round. */
  misfits(): string {
    if (this.#number % 4 !== 0) return '';
    const options = `lowerdir=${this.at('new')},upperdir=${this.at('upper')},workdir=${this.at('work')}`;
    const ran = this.#run('check', '-o', `${options},${this.options}`);
    return ran.code === 0 ? '' : ran.out + ran.err;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function campaignOf(
  t: TestContext,
  act: (world: World, editors: (names: Names, tag: string) => Editor) => Promise<void>,
): Promise<void> {
  const base = tempDir(t);
  run('mount', ['-t', 'tmpfs', 'none', base]);
  const cli = cliIn(base);
  for (let number = 0; number < rounds; number++) {
    const folder = join(base, `r${number}`);
    mkdirSync(folder);
    const world = new World(folder, number, cli.run);
    try {
      await act(world, (names, tag) => new Editor(world.random, names, tag));
    } catch (error) {
      if (process.env['VARVE_TEST_KEEP'] !== undefined) {
        spawnSync('cp', ['-a', folder, process.env['VARVE_TEST_KEEP']]);
      }
      throw new Error(
        `round ${number} of --seed ${seed} (${world.options}): ${(error as Error).message}\n${world.steps.join('\n')}`,
        { cause: error },
      );
    }
    world.remove();
  }
}

const told = (objects: ReadonlyMap<string, string>): string =>
  [...objects]
    .map(([path, what]) => `${path} ${what}`)
    .sort()
    .join('\n');

test('edits of different names: silent, and as the naive merge has it', { skip }, async (t) => {
  await campaignOf(t, async (world, editor) => {
    editor(OURS, 'base-o').fill(world.at('old'));
    editor(THEIRS, 'base-t').fill(world.at('old'));
    for (const name of SHARED) mkdirSync(join(world.at('old'), name), { recursive: true });
    world.copy('old', 'new');
    const base = tell(world.at('old'));
    const theirEditor = editor(THEIRS, 'theirs');
    world.edit(theirEditor, world.at('new'), 25);
    const theirs = tell(world.at('new'));
    const ours = world.mounted('old', (mnt) => world.edit(editor(OURS, 'ours'), mnt, 25));
    const expected = naiveMerge(base, ours, theirs);
    assert.ok(expected, 'the test edits one name from two sides');
    const report = await world.rebase();
    const conflicts = report.decisions.filter(({ outcome }) => outcome === 'conflict');
    assert.deepEqual(conflicts, []);
    assert.equal(told(world.mounted('new').objects), told(expected));
    assert.equal(world.misfits(), '');
  });
});

test('edits of the same names: every byte that was written is there', { skip }, async (t) => {
  await campaignOf(t, async (world, editor) => {
    editor(ALL, 'base').fill(world.at('old'));
    world.copy('old', 'new');
    const base = tell(world.at('old'));
    world.edit(editor(ALL, 'theirs'), world.at('new'), 14);
    const theirs = tell(world.at('new'));
    const ours = world.mounted('old', (mnt) => world.edit(editor(ALL, 'ours'), mnt, 14));
    const report = await world.rebase();
    const result = world.mounted('new');
    for (const [side, { contents }] of Object.entries({ ours, theirs })) {
      for (const bytes of contents) {
        if (!base.contents.has(bytes)) assert.ok(result.contents.has(bytes), `${side}: ${bytes}`);
      }
    }
    const conflicts = report.decisions.filter(({ outcome }) => outcome === 'conflict');
    const merged = naiveMerge(base, ours, theirs);
    if (merged !== undefined && conflicts.length === 0) {
      assert.equal(told(result.objects), told(merged));
    }
    assert.equal(world.misfits(), '');
    assert.ok(report.kept);
    // What was put away is what the mount showed, and goes back.
    rmSync(world.at('upper'), { recursive: true });
    run('cp', ['-a', '-T', report.kept, world.at('upper')]);
  });
});
