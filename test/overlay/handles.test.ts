// File handles of a mount with nfs_export=on: they open after the kernel has forgotten everything, and after a new mount,
// whatever the layers are made of and whatever became of the object; ESTALE only where it is gone.
// Calls name_to_handle_at(2) and open_by_handle_at(2), as NFS servers do. The expectations are those of the issue.

import assert from 'node:assert/strict';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { file, type Tree } from '../layer/tree.js';
import { type Feature, requires } from '../support/requires.js';
import { AT, forgetNames, must, O, readdir, show, stat, sys } from '../support/sys.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { mountExt4, run, Stack } from './stack.js';

const OPTIONS = 'nfs_export=on';

const lower: Tree = {
  'd/file': file('of the lower'),
  'd/sub/in': file('deep'),
  'd/sub/deeper/in': file('deeper'),
  'merged/low': file('low'),
  'move/x/deep': file('moved along'),
  linked: file('twice'),
  second: { type: 'link', data: 'linked' },
  symlink: { type: 'symlink', data: 'd/file' },
  fifo: { type: 'fifo' },
  copied: file('to be copied'),
  touched: file('to be touched'),
  renamed: file('to be renamed'),
  gone: file('to be removed'),
  'gone-dir/in': file(''),
  covered: file('to be covered'),
  'still/there': file('never touched'),
};
const upper: Tree = {
  up: file('of the upper'),
  'up-dir/in': file('in the upper'),
  'merged/up': file('up'),
};

function mountXfs(folder: string, image: string): void {
  mkdirSync(folder, { recursive: true });
  run('truncate', ['-s', '320M', image]);
  run('mkfs.xfs', ['-q', image]);
  run('mount', ['-o', 'loop,nouuid', image, folder]);
}

interface Kind {
  readonly name: string;
  readonly features: readonly Feature[];
  readonly packages: readonly string[];
  /** Makes the lower of the folder `source`. @returns what to name as lowerdir. */
  readonly make: (source: string, base: string) => string;
}

/** What a lower can lie on. */
const kinds: readonly Kind[] = [
  {
    name: 'ext4',
    features: ['ext4'],
    packages: ['e2fsprogs'],
    make: (source, base) => {
      const folder = join(base, 'lower');
      mountExt4(folder, join(base, 'lower.img'), 16);
      run('cp', ['-a', `${source}/.`, folder]);
      return folder;
    },
  },
  {
    name: 'xfs',
    features: ['xfs'],
    packages: ['xfsprogs'],
    make: (source, base) => {
      const folder = join(base, 'lower');
      mountXfs(folder, join(base, 'lower.img'));
      run('cp', ['-a', `${source}/.`, folder]);
      return folder;
    },
  },
  {
    name: 'squashfs',
    features: [],
    packages: ['squashfs-tools'],
    make: (source, base) => {
      const folder = join(base, 'lower');
      mkdirSync(folder);
      run('mksquashfs', [source, join(base, 'lower.img'), '-quiet', '-no-progress']);
      run('mount', ['-o', 'loop,ro', join(base, 'lower.img'), folder]);
      return folder;
    },
  },
  {
    name: 'a mounted EROFS image',
    features: ['erofs'],
    packages: ['erofs-utils'],
    make: (source, base) => {
      const folder = join(base, 'lower');
      mkdirSync(folder);
      run('mkfs.erofs', ['--quiet', join(base, 'lower.img'), source]);
      run('mount', ['-t', 'erofs', '-o', 'loop,ro', join(base, 'lower.img'), folder]);
      return folder;
    },
  },
  {
    name: 'an EROFS image',
    features: [],
    packages: ['erofs-utils'],
    make: (source, base) => {
      run('mkfs.erofs', ['--quiet', join(base, 'lower.erofs'), source]);
      return join(base, 'lower.erofs');
    },
  },
  {
    name: 'the upper’s filesystem',
    features: [],
    packages: [],
    make: (source) => source,
  },
  {
    name: 'tmpfs',
    features: ['tmpfs'],
    packages: [],
    make: (source, base) => {
      const folder = join(base, 'lower');
      mkdirSync(folder);
      run('mount', ['-t', 'tmpfs', 'tmpfs', folder]);
      run('cp', ['-a', `${source}/.`, folder]);
      return folder;
    },
  },
];

/** Whose copies an upper on XFS is tried with, too. */
const OVER_XFS: ReadonlySet<string> = new Set(['xfs', 'squashfs', 'the upper’s filesystem']);

/** A stack over a lower of this kind; the upper lies on ext4 or XFS. */
async function exported(t: TestContext, kind: Kind, on: 'ext4' | 'xfs'): Promise<Stack> {
  const base = makeTempDir();
  t.after(() => removeTempDir(base));
  const disk = join(base, 'disk');
  if (on === 'xfs') mountXfs(disk, join(base, 'disk.img'));
  else mountExt4(disk, join(base, 'disk.img'), 64);
  const s = new Stack(disk, { lowers: [lower], upper, options: OPTIONS });
  const [source] = s.lowers as [string];
  const made = kind.make(source, base);
  if (made !== source) {
    renameSync(source, join(disk, 'source'));
    s.place(made);
  }
  await s.mount();
  return s;
}

/** What a handle opens: `dir` with its names, a file's content, or the errno's name. */
function opened(mount: number, handle: Buffer): string {
  const fd = sys.openByHandle(mount, handle, O.RDONLY | O.NONBLOCK);
  if (fd < 0) return show(fd);
  try {
    const found = stat(fd, '', AT.EMPTY_PATH);
    assert.ok(typeof found !== 'number', 'fstat');
    const type = found.mode & 0o170000;
    if (type === 0o040000) return names(fd);
    if (type !== 0o100000) return `special ${found.mode.toString(8)}`;
    return (sys.pread(fd, 4096, 0) as Buffer).toString('latin1');
  } finally {
    sys.close(fd);
  }
}

function names(fd: number): string {
  const list = readdir(fd);
  assert.ok(typeof list !== 'number', 'readdir');
  return `dir ${list
    .map((entry) => entry.name)
    .filter((name) => name !== '.' && name !== '..')
    .sort()
    .join(' ')}`;
}

function inoOf(root: number, name: string): bigint {
  const found = stat(root, name, AT.SYMLINK_NOFOLLOW);
  assert.ok(typeof found !== 'number', `${name}: ${show(found as number)}`);
  return found.ino;
}

/** Names and attributes of every filesystem go. */
function dropCaches(): void {
  writeFileSync('/proc/sys/vm/drop_caches', '2');
}

function handleOf(root: number, name: string): Buffer {
  const handle = sys.nameToHandle(root, name);
  assert.ok(typeof handle !== 'number', `${name}: ${show(handle as number)}`);
  return handle;
}

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** Of a removed object that was open a moment ago: the kernel tells its server of the last close in its own time. */
function becomesStale(mnt: string, root: number, handle: Buffer): void {
  const until = Date.now() + 60_000;
  do {
    assert.ok(Date.now() < until, 'it is still there');
    pause(20);
    forgetNames(mnt);
  } while (opened(root, handle) !== 'ESTALE');
}

const objects = [
  'd',
  'd/file',
  'd/sub',
  'd/sub/in',
  'd/sub/deeper',
  'd/sub/deeper/in',
  'merged',
  'merged/low',
  'merged/up',
  'move',
  'move/x',
  'move/x/deep',
  'linked',
  'fifo',
  'copied',
  'touched',
  'renamed',
  'gone',
  'gone-dir',
  'gone-dir/in',
  'covered',
  'still',
  'still/there',
  'up',
  'up-dir',
  'up-dir/in',
] as const;

/** What the handles taken before change() open after it. */
const afterwards: Readonly<Record<(typeof objects)[number], string>> = {
  d: 'dir added file sub',
  'd/file': 'of the lower',
  'd/sub': 'dir deeper in',
  'd/sub/in': 'deep',
  'd/sub/deeper': 'dir in',
  'd/sub/deeper/in': 'deeper',
  merged: 'dir low up',
  'merged/low': 'low',
  'merged/up': 'up',
  move: 'dir x',
  'move/x': 'dir deep',
  'move/x/deep': 'moved along',
  linked: 'twice',
  fifo: 'special 10644',
  copied: 'CO be copied',
  touched: 'to be touched',
  renamed: 'to be renamed',
  gone: 'ESTALE',
  'gone-dir': 'ESTALE',
  'gone-dir/in': 'ESTALE',
  covered: 'ESTALE',
  still: 'dir there',
  'still/there': 'never touched',
  up: 'of the upper',
  'up-dir': 'dir moved-in',
  'up-dir/in': 'in the upper',
};

/** Copies up, renames, redirects, links and removes. */
function change(s: Stack): void {
  s.at((root) => {
    const fd = must(sys.open(root, 'copied', O.WRONLY));
    must(sys.pwrite(fd, Buffer.from('CO'), 0));
    sys.close(fd);
    must(sys.chmod(root, 'touched', 0o600));
    must(sys.chmod(root, 'd', 0o755));
    must(sys.rename(root, 'renamed', 'd/sub/renamed'));
    must(sys.rename(root, 'd/sub/renamed', 'new-name'));
    must(sys.rename(root, 'move', 'd/added'));
    must(sys.link(root, 'linked', 'third'));
    must(sys.unlink(root, 'linked'));
    must(sys.unlink(root, 'second'));
    must(sys.unlink(root, 'gone'));
    must(sys.unlink(root, 'gone-dir/in'));
    must(sys.rmdir(root, 'gone-dir'));
    must(sys.rename(root, 'up-dir/in', 'up-dir/moved-in'));
  });
  s.write('other', 'it covers');
  s.at((root) => must(sys.rename(root, 'other', 'covered')));
}

for (const on of ['ext4', 'xfs'] as const) {
  for (const kind of on === 'ext4' ? kinds : kinds.filter(({ name }) => OVER_XFS.has(name))) {
    const skip = requires({
      root: true,
      features: ['fuse', 'loop', on, ...kind.features],
      packages: ['e2fsprogs', 'xfsprogs', ...kind.packages],
    });
    test(`handles over ${kind.name}, the upper on ${on}`, { skip, timeout: 120_000 }, async (t) => {
      const s = await exported(t, kind, on);
      const handles = s.at((root) =>
        objects.map((name) => ({ name, handle: handleOf(root, name), ino: inoOf(root, name) })),
      );
      const check = (when: string, expected: Readonly<Record<string, string>>) =>
        s.at((root) => {
          const wanted = new Map(objects.map((name) => [name, expected[name]]));
          const found = new Map(handles.map(({ name, handle }) => [name, opened(root, handle)]));
          assert.deepEqual(found, wanted, when);
        });
      const before = s.at((root) =>
        Object.fromEntries(handles.map(({ name, handle }) => [name, opened(root, handle)])),
      );
      dropCaches();
      check('before anything changed, caches dropped', before);
      await s.remount();
      check('before anything changed, mounted again', before);
      change(s);
      check('after changes', afterwards);
      dropCaches();
      check('after changes, caches dropped', afterwards);
      s.kill();
      check('after changes, the server killed', afterwards);
      dropCaches();
      s.kill();
      check('after changes, caches dropped and the server killed', afterwards);
      await s.remount();
      check('after changes, mounted again', afterwards);
      s.at((root) => {
        for (const { name, handle, ino } of handles) {
          if (afterwards[name] === 'ESTALE') continue;
          const fd = must(sys.openByHandle(root, handle, O.PATH));
          const found = stat(fd, '', AT.EMPTY_PATH);
          sys.close(fd);
          assert.ok(typeof found !== 'number', name);
          assert.equal(found.ino, ino, name);
        }
      });
      // New handles of the same objects are the same.
      s.at((root) => {
        const now = { copied: 'copied', renamed: 'new-name', move: 'd/added', linked: 'third' };
        for (const [name, path] of Object.entries(now)) {
          const old = handles.find((each) => each.name === name)?.handle;
          assert.deepEqual(handleOf(root, path), old, name);
        }
      });
    });
  }
}

const needed = requires({
  root: true,
  features: ['fuse', 'loop', 'ext4'],
  packages: ['e2fsprogs', 'xfsprogs'],
});

/** A stack whose lower and upper lie on one ext4. */
const plain = (t: TestContext): Promise<Stack> =>
  exported(t, kinds.find(({ name }) => name === 'ext4') as Kind, 'ext4');

test('what a handle opens can be written to', { skip: needed }, async (t) => {
  const s = await plain(t);
  const names = ['d/file', 'd/sub/in', 'second', 'up', 'up-dir/in', 'merged/low'];
  const handles = s.at((root) => names.map((name) => handleOf(root, name)));
  for (const forget of [dropCaches, () => s.kill(), () => s.remount()]) {
    for (const [i, name] of names.entries()) {
      await forget();
      s.at((root) => {
        const fd = must(sys.openByHandle(root, handles[i] as Buffer, O.RDWR));
        must(sys.pwrite(fd, Buffer.from(`by handle ${i}`), 0));
        must(sys.ftruncate(fd, 11));
        must(sys.fsetxattr(fd, 'user.by', Buffer.from('handle')));
        sys.close(fd);
        assert.equal(opened(root, handles[i] as Buffer), `by handle ${i}`);
        assert.equal(String(sys.getxattr(root, name, 'user.by')), 'handle');
      });
      assert.equal(s.read(name), `by handle ${i}`);
    }
  }
  // Both names of the file with two, of which one was written to.
  assert.equal(s.read('linked'), 'by handle 2');
  s.tree();
});

test('a directory opened by handle is the directory: names below it, new ones, its parent', {
  skip: needed,
}, async (t) => {
  const s = await plain(t);
  const handle = s.at((root) => handleOf(root, 'd/sub/deeper'));
  await s.remount();
  s.at((root) => {
    const fd = must(sys.openByHandle(root, handle, O.DIRECTORY));
    must(sys.mkdir(fd, 'made', 0o755));
    const made = must(sys.open(fd, 'made/file', O.CREAT | O.WRONLY, 0o600));
    must(sys.write(made, Buffer.from('there')));
    sys.close(made);
    const parent = must(sys.open(fd, '..', O.DIRECTORY));
    assert.equal(inoOf(parent, ''), inoOf(root, 'd/sub'));
    sys.close(parent);
    sys.close(fd);
  });
  assert.equal(s.read('d/sub/deeper/made/file'), 'there');
});

test('an unlinked object opens by its handle for as long as it is open', {
  skip: needed,
}, async (t) => {
  const s = await plain(t);
  for (const name of ['d/file', 'up']) {
    s.at((root) => {
      const handle = handleOf(root, name);
      const fd = must(sys.open(root, name, O.RDONLY));
      const content = opened(root, handle);
      must(sys.unlink(root, name));
      dropCaches();
      assert.equal(opened(root, handle), content, name);
      sys.close(fd);
      becomesStale(s.mnt, root, handle);
    });
  }
});

test('a handle of an inode that was used again is stale', { skip: needed }, async (t) => {
  const s = await plain(t);
  s.at((root) => {
    const make = (name: string): bigint => {
      const fd = must(sys.open(root, name, O.CREAT | O.EXCL | O.WRONLY, 0o644));
      must(sys.write(fd, Buffer.from(name)));
      sys.close(fd);
      return inoOf(root, name);
    };
    const ino = make('first');
    const handle = handleOf(root, 'first');
    must(sys.unlink(root, 'first'));
    // The birth must differ by more than a tick of the clock.
    pause(50);
    // The number is free once the server has been told that nobody uses the file, a moment after it was unlinked.
    const again = Array.from({ length: 2000 }, (_, i) => `again${i}`).find((name, i) => {
      if (i % 100 === 99) pause(50);
      return make(name) === ino;
    });
    assert.ok(again !== undefined, 'ext4 takes the lowest free number');
    assert.equal(opened(root, handle), 'ESTALE');
    dropCaches();
    assert.equal(opened(root, handle), 'ESTALE');
    assert.equal(opened(root, handleOf(root, again)), again);
  });
  await s.remount();
});

test('one name of several is enough, in whichever directory it is', { skip: needed }, async (t) => {
  const s = await plain(t);
  const handle = s.at((root) => {
    must(sys.link(root, 'up', 'd/up2'));
    must(sys.link(root, 'up', 'still/up3'));
    return handleOf(root, 'up');
  });
  for (const gone of ['up', 'd/up2']) {
    await s.remount();
    s.at((root) => {
      assert.equal(opened(root, handle), 'of the upper', `before ${gone} went`);
      must(sys.unlink(root, gone));
      dropCaches();
      assert.equal(opened(root, handle), 'of the upper', `after ${gone} went`);
    });
  }
  s.at((root) => {
    must(sys.unlink(root, 'still/up3'));
    becomesStale(s.mnt, root, handle);
  });
});

test('handles are found while names come and go', { skip: needed, timeout: 120_000 }, async (t) => {
  const s = await plain(t);
  const count = 300;
  const handles = s.at((root) => {
    for (let i = 0; i < count; i++) {
      must(sys.mkdir(root, `many${i}`, 0o755));
      const fd = must(sys.open(root, `many${i}/file`, O.CREAT | O.WRONLY, 0o644));
      must(sys.write(fd, Buffer.from(`content ${i}`)));
      sys.close(fd);
    }
    return Array.from({ length: count }, (_, i) => handleOf(root, `many${i}/file`));
  });
  for (const again of [false, true]) {
    await s.remount();
    s.at((root) => {
      for (let i = 0; i < count; i++) {
        // Elsewhere, and there and back: what was read of the directories is old at once.
        must(sys.rename(root, `many${i}`, `d/elsewhere${i}`));
        must(sys.rename(root, `d/elsewhere${i}/file`, `still/file${i}`));
        if (i % 10 === 0) forgetNames(s.mnt);
        const j = (i * 7) % count;
        assert.equal(opened(root, handles[j] as Buffer), `content ${j}`, `${j} after moving ${i}`);
        must(sys.rename(root, `still/file${i}`, `d/elsewhere${i}/file`));
        must(sys.rename(root, `d/elsewhere${i}`, `many${i}`));
      }
      if (again) for (let i = 0; i < count; i++) must(sys.unlink(root, `many${i}/file`));
      if (again) for (const handle of handles) assert.equal(opened(root, handle), 'ESTALE');
    });
  }
});

test('kernel overlayfs gives no fewer promises over the same layers', {
  skip: needed,
}, async (t) => {
  const s = await plain(t);
  await s.unmount();
  s.kernelMount('redirect_dir=on,index=on,nfs_export=on');
  const handles = s.at((root) => objects.map((name) => handleOf(root, name)));
  change(s);
  dropCaches();
  const theirs = s.at((root) => handles.map((handle) => opened(root, handle)));
  s.kernelUnmount();
  for (const [i, name] of objects.entries()) {
    if (afterwards[name] === 'ESTALE') continue;
    // What it opens, ours opens with the same content (the tests above).
    if (theirs[i] !== 'ESTALE') assert.equal(theirs[i], afterwards[name], name);
  }
});
