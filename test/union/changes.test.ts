import assert from 'node:assert/strict';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { extractTree } from '../../src/tree/extract.js';
import { scan } from '../../src/tree/scan.js';
import { isNews } from '../../src/union/change.js';
import { readChanges, stackOf } from '../../src/union/changes.js';
import { deltaTree } from '../../src/union/delta.js';
import { viewDirectory } from '../../src/union/directory-view.js';
import { unionTree } from '../../src/union/flat.js';
import type { LayerView } from '../../src/union/view.js';
import { run } from '../overlay/stack.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const skip = requires({ root: true, features: ['overlayfs', 'tmpfs'] });

/** A kernel overlayfs whose upper is changed by `act`; it is unmounted before this returns, but for `mounted`. */
function changed(
  t: TestContext,
  options: string,
  fill: (lower: string) => void,
  act: (mount: string) => void,
  mounted: (mount: string, folder: string) => void = () => {},
): string {
  const folder = tempDir(t);
  run('mount', ['-t', 'tmpfs', 'none', folder]);
  for (const name of ['lower', 'upper', 'work', 'mnt']) mkdirSync(join(folder, name));
  fill(join(folder, 'lower'));
  mountOverlay(folder, 'mnt', `lowerdir=lower,upperdir=upper,workdir=work,${options}`);
  try {
    act(join(folder, 'mnt'));
    mounted(join(folder, 'mnt'), folder);
  } finally {
    run('umount', [join(folder, 'mnt')]);
  }
  return folder;
}

function mountOverlay(folder: string, at: string, options: string): void {
  const absolute = options.replace(
    /(lowerdir|upperdir|workdir)=([^,]*)/g,
    (_, name, value) =>
      `${name}=${(value as string)
        .split(':')
        .map((part: string) => join(folder, part))
        .join(':')}`,
  );
  run('mount', ['-t', 'overlay', 'overlay', '-o', absolute, join(folder, at)]);
}

function views(t: TestContext, folder: string): [LayerView, LayerView] {
  const open = (name: string): LayerView => {
    const view = viewDirectory(join(folder, name), 'trusted.overlay.');
    t.after(() => view.close());
    return view;
  };
  return [open('upper'), open('lower')];
}

function lowerTree(lower: string): void {
  mkdirSync(join(lower, 'etc/deep'), { recursive: true });
  mkdirSync(join(lower, 'gone'));
  mkdirSync(join(lower, 'again'));
  for (const name of [
    'etc/a',
    'etc/b',
    'etc/deep/c',
    'gone/x',
    'again/old',
    'again/kept',
    'same',
  ]) {
    writeFileSync(join(lower, name), `content of ${name}\n`);
  }
  for (const name of ['moved', 'meta', 'type']) writeFileSync(join(lower, name), name);
}

function work(mount: string): void {
  writeFileSync(join(mount, 'etc/a'), 'another\n');
  writeFileSync(join(mount, 'new'), 'new');
  linkSync(join(mount, 'new'), join(mount, 'new2'));
  chmodSync(join(mount, 'meta'), 0o600);
  rmSync(join(mount, 'gone'), { recursive: true });
  rmSync(join(mount, 'again'), { recursive: true });
  mkdirSync(join(mount, 'again'));
  writeFileSync(join(mount, 'again/kept'), 'content of again/kept\n');
  renameSync(join(mount, 'moved'), join(mount, 'etc/moved'));
  renameSync(join(mount, 'etc/deep'), join(mount, 'deeper'));
  writeFileSync(join(mount, 'deeper/c'), 'changed in a renamed directory\n');
  rmSync(join(mount, 'type'));
  mkdirSync(join(mount, 'type'));
  writeFileSync(join(mount, 'same'), readFileSync(join(mount, 'same')));
  utimesSync(join(mount, 'etc/b'), 1, 1);
}

for (const options of ['redirect_dir=on,metacopy=on', 'redirect_dir=off,metacopy=off,index=off']) {
  test(`every kind of change is told apart: ${options}`, { skip }, (t) => {
    const redirects = options.startsWith('redirect_dir=on');
    const folder = changed(t, options, lowerTree, (mount) => {
      if (redirects) return work(mount);
      // Without redirects the kernel does not rename directories of a lower.
      mkdirSync(join(mount, 'etc/other'));
      writeFileSync(join(mount, 'etc/other/f'), 'f');
      renameSync(join(mount, 'moved'), join(mount, 'etc/moved'));
    });
    const stack = stackOf(views(t, folder));
    const changes = readChanges(stack);
    const told = changes
      .filter(isNews)
      .map(
        ({ status, from, path }) => `${status} ${from === undefined ? '' : `${from} -> `}${path}`,
      );
    assert.deepEqual(
      told,
      redirects
        ? [
            'D again/old',
            'R etc/deep -> deeper',
            'M etc/deep/c -> deeper/c',
            'M etc/a',
            'R moved -> etc/moved',
            'D gone',
            'M meta',
            'A new',
            'A new2',
            'T type',
          ]
        : ['R moved -> etc/moved', 'A etc/other', 'A etc/other/f'],
    );
    if (!redirects) return;
    const of = (path: string) => changes.find((change) => change.path === path);
    assert.deepEqual(of('meta')?.differs, {
      content: false,
      mode: true,
      owner: false,
      xattr: false,
      time: false,
    });
    assert.equal(of('meta')?.stored, 0, 'a metacopy file has no bytes of its own');
    assert.equal(of('same')?.status, '=', 'rewritten with identical bytes');
    assert.equal(of('etc/b')?.differs.time, true);
    assert.equal(of('new2')?.link, 'new');
    assert.equal(of('new2')?.after, of('new')?.after);
    assert.equal(of('again')?.opaque, true);
  });
}

test('the union and the delta over the lower are what the kernel shows', { skip }, (t) => {
  let expected: ReturnType<typeof scan> | undefined;
  const folder = changed(t, 'redirect_dir=on,metacopy=on', lowerTree, work, (mount, at) => {
    // A copy: what the mount shows is to be compared when it is gone.
    run('cp', ['-a', `${mount}/.`, join(at, 'copy')]);
  });
  expected = scan(join(folder, 'copy'));
  t.after(() => expected?.close());
  const ignore = ['backing'] as const;
  const stack = stackOf(views(t, folder));
  const same = compareTrees(expected.root, unionTree(stack.after), { ignore });
  assert.deepEqual(same, [], showDifferences(same));

  const delta = deltaTree(stack, readChanges(stack), { marks: 'trusted.overlay.' });
  mkdirSync(join(folder, 'delta'));
  assert.deepEqual(extractTree(delta, join(folder, 'delta')), []);
  mountOverlay(folder, 'mnt', 'lowerdir=delta:lower');
  const seen = scan(join(folder, 'mnt'));
  try {
    const differences = compareTrees(expected.root, seen.root, { ignore });
    assert.deepEqual(differences, [], showDifferences(differences));
  } finally {
    seen.close();
    run('umount', [join(folder, 'mnt')]);
  }
});
