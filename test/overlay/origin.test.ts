// Inode numbers of copied-up objects after a remount, when only the origin mark tells them: each filesystem writes
// file handles in its own form. Lowers are images of these filesystems.

import assert from 'node:assert/strict';
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, stat, sys } from '../support/sys.js';
import { mountExt4, run, stack } from './stack.js';

const tree: Tree = {
  'd/file': file('content'),
  'd/sub/in': file(''),
  linked: file('twice'),
  second: { type: 'link', data: 'linked' },
  link: { type: 'symlink', data: 'd' },
};

/** Each mounts an image at `folder` with what lies in `source`. */
const filesystems = [
  {
    type: 'ext4',
    needs: 'e2fsprogs',
    mount: (source: string, image: string, folder: string) => {
      mountExt4(folder, image, 16);
      run('cp', ['-a', `${source}/.`, folder]);
    },
  },
  {
    type: 'xfs',
    needs: 'xfsprogs',
    mount: (source: string, image: string, folder: string) => {
      run('truncate', ['-s', '320M', image]);
      run('mkfs.xfs', ['-q', image]);
      run('mount', ['-o', 'loop', image, folder]);
      run('cp', ['-a', `${source}/.`, folder]);
    },
  },
  {
    type: 'erofs',
    needs: 'erofs-utils',
    mount: (source: string, image: string, folder: string) => {
      run('mkfs.erofs', ['--quiet', image, source]);
      run('mount', ['-t', 'erofs', '-o', 'loop,ro', image, folder]);
    },
  },
] as const;

for (const { type, needs, mount } of filesystems) {
  const skip = requires({
    root: true,
    features: ['fuse', 'overlayfs', 'loop', type],
    packages: [needs],
  });
  test(`numbers of what was copied up from ${type} outlive a remount`, { skip }, async (t) => {
    const s = await stack(t, { disk: true, unmounted: true, lowers: [tree] });
    const [lower] = s.lowers as [string];
    const source = join(s.base, 'source');
    renameSync(lower, source);
    mkdirSync(lower);
    mount(source, join(s.base, 'image'), lower);

    const numbers = (names: readonly string[]) =>
      s.at((root) =>
        names.map((name) => {
          const found = stat(root, name, AT.SYMLINK_NOFOLLOW);
          assert.ok(typeof found !== 'number', name);
          return found.ino;
        }),
      );
    await s.mount();
    const before = numbers(['d', 'd/file', 'd/sub', 'linked', 'second', 'link']);
    s.at((root) => {
      must(sys.chmod(root, 'd/file', 0o600));
      must(sys.rename(root, 'd/sub', 'moved'));
      must(sys.link(root, 'linked', 'third'));
      must(sys.rename(root, 'link', 'moved-link'));
    });
    const names = ['d', 'd/file', 'moved', 'linked', 'second', 'moved-link'];
    assert.deepEqual(numbers(names), before);
    await s.remount();
    assert.deepEqual(numbers(names), before);
    // Listings agree with stat(2).
    s.tree();
  });
}
