// A patch of a real upper: git apply on a copy of the lower gives what the mount shows, directories deleted and renamed included.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { patchOf } from '../../src/report/patch.js';
import { filesOf } from '../../src/report/patch-files.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { scan } from '../../src/tree/scan.js';
import { isDirectory, remove, sortedNames, type TreeNode } from '../../src/tree/tree.js';
import { readChanges, stackOf } from '../../src/union/changes.js';
import { viewDirectory } from '../../src/union/directory-view.js';
import { run } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const skip = requires({ root: true, features: ['overlayfs', 'tmpfs'], packages: ['git'] });

/** Files `name` with some lines each, in their directories. */
function fill(folder: string, names: readonly string[]): void {
  for (const name of names) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    const lines = Array.from({ length: 30 }, (_, i) => `${name} ${i}\n`);
    writeFileSync(join(folder, name), lines.join(''));
  }
}

function act(mount: string): void {
  const at = (name: string) => join(mount, name);
  rmSync(at('gone'), { recursive: true });
  run('mv', ['-T', at('moved'), at('there')]);
  rmSync(at('there/drop'));
  writeFileSync(at('there/in/edit'), 'edited\n');
  chmodSync(at('there/in/mode'), 0o755);
  run('mv', ['-T', at('there/in/deep'), at('out')]);
  writeFileSync(at('out/new'), 'new\n');
  run('mv', ['-T', at('swap1'), at('swap')]);
  run('mv', ['-T', at('swap2'), at('swap1')]);
  run('mv', ['-T', at('swap'), at('swap2')]);
  rmSync(at('file'));
  mkdirSync(at('file'));
  writeFileSync(at('file/below'), 'a directory now\n');
  rmSync(at('dir'), { recursive: true });
  symlinkSync('nowhere', at('dir'));
  rmSync(at('again'), { recursive: true });
  mkdirSync(at('again'));
  writeFileSync(at('again/two'), 'filled again\n');
}

/** Git has no directories of their own. */
function withoutEmpty(dir: TreeNode): TreeNode {
  for (const name of sortedNames(dir)) {
    const node = dir.entries?.get(name) as TreeNode;
    if (isDirectory(node) && withoutEmpty(node).entries?.size === 0) remove(dir, name);
  }
  return dir;
}

for (const options of ['redirect_dir=on,metacopy=on', 'redirect_dir=off,metacopy=off']) {
  test(`git apply makes of the lower what the mount shows: ${options}`, { skip }, (t) => {
    const folder = tempDir(t);
    run('mount', ['-t', 'tmpfs', 'none', folder]);
    const [lower, upper, work, mnt, copy] = ['lower', 'upper', 'work', 'mnt', 'copy'].map(
      (name) => {
        mkdirSync(join(folder, name));
        return join(folder, name);
      },
    ) as [string, string, string, string, string];
    fill(lower, [
      'gone/a',
      'gone/sub/b',
      'moved/drop',
      'moved/keep',
      'moved/in/edit',
      'moved/in/mode',
    ]);
    fill(lower, ['moved/in/deep/one', 'moved/in/deep/er/two', 'swap1/a', 'swap2/b', 'file']);
    fill(lower, ['dir/x', 'dir/sub/y', 'again/one', 'again/two', 'untouched/z']);
    cpSync(lower, copy, { recursive: true });
    const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work},${options}`;
    run('mount', ['-t', 'overlay', 'overlay', '-o', layers, mnt]);
    act(mnt);
    const views = [upper, lower].map((path) => viewDirectory(path, 'trusted.overlay.'));
    t.after(() => views.forEach((view) => void view.close()));
    const [first, second] = views as [(typeof views)[0], (typeof views)[0]];
    const stack = stackOf([first, second]);
    const patch = [...patchOf(filesOf(readChanges(stack), stack))].join('');
    const env = { ...process.env, GIT_CEILING_DIRECTORIES: folder };
    const input = Buffer.from(patch, 'latin1');
    const result = spawnSync('git', ['apply', '-'], { cwd: copy, input, env, encoding: 'utf8' });
    assert.equal(result.status, 0, `${result.stderr}\n${patch}`);
    const shown = scan(mnt);
    const made = scan(copy);
    t.after(() => [shown, made].forEach((tree) => void tree.close()));
    const ignore = ['time', 'owner', 'mode'] as const;
    const differences = compareTrees(withoutEmpty(shown.root), withoutEmpty(made.root), { ignore });
    assert.equal(showDifferences(differences), '');
    if (!options.startsWith('redirect_dir=on')) return;
    assert.match(patch, /^rename from moved\/keep\nrename to there\/keep$/m);
    assert.match(patch, /^rename from moved\/in\/deep\/er\/two\nrename to out\/er\/two$/m);
    assert.doesNotMatch(patch, /untouched/);
  });
}
