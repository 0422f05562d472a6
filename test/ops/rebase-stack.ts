// A stack whose upper is made on a mount, and a new version of its lower: what each scenario of the rebase tests begins with.
// Used by rebase*.test.ts; everything lies on a tmpfs of its own, or on an ext4.
// The upper is made by kernel overlayfs unless a scenario says otherwise.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Cli, cliIn, type Ran } from '../cli/cli.js';
import { mountExt4, run } from '../overlay/stack.js';
import { untilFree } from '../support/subjects.js';
import { tempDir } from '../support/temp.js';

export interface Scenario {
  /** Shell commands that make the lower; the working directory is its root. */
  readonly old: string;
  /** What is done on the mount. */
  readonly ours: string;
  /** What makes the new version of the lower out of a copy of the old one. */
  readonly theirs: string;
  /** More mount options. */
  readonly options?: string;
  readonly by?: 'kernel' | 'varve';
  readonly disk?: boolean;
}

export interface Decided {
  readonly path: string;
  readonly outcome: string;
  readonly from?: string;
  readonly theirs?: string;
  readonly clashes?: readonly { readonly aspect: string; readonly name?: string }[];
}

export interface Rebased extends Ran {
  readonly kept?: string;
  readonly done: boolean;
  /** `outcome path`, those that were only copied or dropped included. */
  readonly decisions: readonly Decided[];
  /** `path: aspect, aspect`. */
  readonly conflicts: readonly string[];
}

export class RebaseStack {
  readonly cli: Cli;
  readonly options: string;
  readonly #by: 'kernel' | 'varve';

  constructor(t: { after(fn: () => void): void }, scenario: Scenario) {
    const base = tempDir(t);
    const folder = join(base, 'd');
    if (scenario.disk) {
      mountExt4(folder, join(base, 'image'), 64);
      t.after(() => spawnSync('umount', ['-l', folder]));
    } else {
      mkdirSync(folder);
      run('mount', ['-t', 'tmpfs', 'none', folder]);
    }
    this.cli = cliIn(folder);
    this.options = scenario.options ?? 'redirect_dir=on,index=on,metacopy=on';
    this.#by = scenario.by ?? 'kernel';
    for (const name of ['old', 'upper', 'work', 'mnt']) mkdirSync(this.at(name));
    this.shell('old', scenario.old);
    run('cp', ['-a', '-T', this.at('old'), this.at('new')]);
    this.mounted('old', () => this.shell('mnt', scenario.ours));
    this.shell('new', scenario.theirs);
  }

  at(name: string): string {
    return join(this.cli.folder, name);
  }

  shell(folder: string, script: string): string {
    const ran = spawnSync('bash', ['-euc', script], {
      cwd: this.at(folder),
      env: { ...process.env, LC_ALL: 'C' },
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.equal(ran.status, 0, `${script}: ${ran.stderr}`);
    return ran.stdout;
  }

  /** Options that name the whole stack over some lower. */
  stack(lower: string): string {
    return `lowerdir=${this.at(lower)},${this.upperOptions()}`;
  }

  upperOptions(): string {
    return `upperdir=${this.at('upper')},workdir=${this.at('work')},${this.options}`;
  }

  /** Runs `act` while the upper is mounted over a lower. */
  mounted<T>(lower: string, act: () => T, by = this.#by): T {
    untilFree(() => {
      if (by === 'kernel') {
        run('mount', ['-t', 'overlay', 'o', '-o', this.stack(lower), this.at('mnt')]);
        return;
      }
      const ran = this.cli.run('mount', '--backend=fuse', '-o', this.stack(lower), this.at('mnt'));
      if (ran.code !== 0) throw new Error(ran.err);
    });
    try {
      return act();
    } finally {
      if (by === 'kernel') run('umount', [this.at('mnt')]);
      else assert.equal(this.cli.run('umount', this.at('mnt')).code, 0);
    }
  }

  /** Paths of what a mount over NEW shows, with the content of files; `script` says otherwise. */
  shown(script = LIST, by = this.#by): string[] {
    const out = this.mounted('new', () => this.shell('mnt', script), by);
    return out.split('\n').filter((line) => line !== '');
  }

  rebase(...flags: string[]): Rebased {
    const ran = this.cli.run(
      ...['rebase', '--json', '-o', this.upperOptions()],
      ...['--from', this.at('old'), '--to', this.at('new'), ...flags],
    );
    if (ran.out === '') return { ...ran, done: false, decisions: [], conflicts: [] };
    const { decisions, kept, done } = JSON.parse(ran.out) as Rebased;
    const conflicts = decisions
      .filter(({ outcome }) => outcome === 'conflict')
      .map(({ path, clashes }) => {
        const aspects = clashes?.map(({ aspect, name }) => (name ? `${aspect} ${name}` : aspect));
        return `${path}: ${aspects?.join(', ')}`;
      });
    return { ...ran, kept, done, decisions, conflicts };
  }

  /** What no longer fits, as `varve check` has it. */
  misfits(lower = 'new'): string {
    const ran = this.cli.run('check', '-o', this.stack(lower));
    return ran.code === 0 ? '' : ran.out + ran.err;
  }

  /** Paths of the upper, whiteouts as `path whiteout`. */
  upper(): string[] {
    const out = this.shell(
      'upper',
      `find . -mindepth 1 -type c -printf '%P whiteout\\n' -o -mindepth 1 -printf '%P\\n'`,
    );
    return out.split('\n').filter(Boolean).sort();
  }
}

/** Every path, of files with their content, of symlinks with their target. */
const LIST = `find . -mindepth 1 | sort | while read -r f; do
  f=\${f#./}
  if [ -L "$f" ]; then echo "$f -> $(readlink "$f")"
  elif [ -f "$f" ]; then echo "$f: $(tr '\\n' ' ' < "$f" | sed 's/ $//')"
  else echo "$f/"; fi
done`;
