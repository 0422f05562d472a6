import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readTree, type Tree } from '../oracle/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { type ServedComposefs, serveComposefs } from './child.js';
import { BIG, contentOf, MANY, makeSample, type Sample } from './sample.js';

const skip = requires({ root: true, features: ['fuse'] });
const skipOverlay = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'erofs', 'loop', 'tmpfs'],
});
const skipPlain = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'userns', 'plain-user'],
});

interface Mounted {
  readonly folder: string;
  readonly sample: Sample;
  readonly served: ServedComposefs;
  readonly path: (name: string) => string;
}

async function metadata(t: TestContext, version: 0 | 1 = 1): Promise<Mounted> {
  const folder = tempDir(t);
  const sample = makeSample(folder, version);
  const mountpoint = join(folder, 'mnt');
  mkdirSync(mountpoint);
  const served = await serveComposefs(mountpoint, {
    image: sample.image,
    objects: [sample.objects],
    serve: 'metadata',
    verify: true,
  });
  return { folder, sample, served, path: (name) => join(mountpoint, name) };
}

/** A tree, with the attributes that are listed and what asking for each gives. */
function treeOf(folder: string): Tree {
  return asking(folder, (root) => readTree(root, () => true));
}

/** Asks by a descriptor of the mount's root. */
function asking<T>(folder: string, ask: (root: number) => T): T {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    return ask(root);
  } finally {
    must(sys.close(root));
  }
}

test('marks are those of an overlay without privilege, and what is listed can be read', {
  skip,
}, async (t) => {
  const { served } = await metadata(t);
  const attributes = (name: string): string[] => {
    const names = asking(served.mountpoint, (root) => sys.listxattr(root, name));
    assert.ok(typeof names !== 'number', name);
    return names.sort();
  };
  const value = (name: string, key: string): unknown =>
    asking(served.mountpoint, (root) => sys.getxattr(root, name, key));
  assert.deepEqual(attributes(''), ['user.overlay.opaque', 'user.root']);
  assert.deepEqual(attributes('dir/file'), [
    'system.posix_acl_access',
    'trusted.overlay.overlay.deep',
    'trusted.overlay.own',
    'trusted.plain',
    'user.filler',
    'user.overlay.metacopy',
    'user.overlay.overlay.overlay.deep',
    'user.overlay.overlay.own',
    'user.overlay.redirect',
    'user.plain',
  ]);
  assert.deepEqual(attributes('white/out'), [
    'trusted.overlay.whiteout',
    'user.overlay.overlay.whiteout',
  ]);
  assert.deepEqual(attributes('links/symlink'), ['trusted.overlay.own']);
  // A mark by the name that it has in the image; one that there is not.
  assert.equal(value('dir/file', 'trusted.overlay.metacopy'), -61);
  assert.equal(value('dir/file', 'user.overlay.redirected'), -61);
  const { lines } = treeOf(served.mountpoint);
  assert.ok(lines.size > 256 + MANY);
  for (const [name, line] of lines) assert.doesNotMatch(line, /ENODATA|ERANGE/, name);
  await served.end();
});

test('folders of objects are hidden by whiteouts in the root, which are there', {
  skip,
}, async (t) => {
  const { path, served } = await metadata(t);
  const names = readdirSync(path(''));
  const whiteouts = names.filter((name) => /^[0-9a-f]{2}$/.test(name));
  assert.equal(whiteouts.length, 256);
  for (const name of whiteouts) {
    const { rdev, mode } = lstatSync(path(name));
    assert.deepEqual([rdev, mode & 0o170000], [0, 0o020000]);
  }
  await served.end();
});

test('there is no content but that of the image, and who asks for other is told once', {
  skip,
}, async (t) => {
  const { path, served } = await metadata(t);
  assert.equal(statSync(path('big')).size, BIG);
  for (const name of ['big', 'dir/file', 'objects/missing']) {
    assert.throws(() => readFileSync(path(name)), { code: 'EIO' });
  }
  assert.equal(readFileSync(path('white/shown'), 'latin1'), 'abc');
  await served.logged('content was asked for');
  assert.equal(served.logs().length, 1);
  await served.end();
});

/** Reads and copies up everything through an overlay, and compares with the kernel's own. @returns what the server was asked. */
async function throughOverlay(t: TestContext, version: 0 | 1) {
  const { folder, sample, served, path } = await metadata(t, version);
  const place = (name: string): string => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const erofs = place('erofs');
  const kernel = place('kernel');
  const ours = place('ours');
  // In memory: copying up syncs each file, and a disk would give the kernel time to evict what is not read yet.
  const memory = place('memory');
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', memory]);
  const upper = place('memory/upper');
  const work = place('memory/work');
  execFileSync('mount', ['-t', 'erofs', '-o', 'ro,loop', sample.image, erofs]);
  const trusted = `ro,metacopy=on,redirect_dir=follow,lowerdir=${erofs}::${sample.objects}`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', trusted, kernel]);
  const sides = `upperdir=${upper},workdir=${work}`;
  const user = `userxattr,${sides},lowerdir=${path('')}::${sample.objects}`;
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', user, ours]);
  const theirs = [...treeOf(kernel).lines].map(([name, line]) => [
    name,
    line.replaceAll(/ user\.[a-z.]+=ENODATA/g, ''),
  ]);
  const tree = treeOf(ours);
  // The root is the upper's; the other has no path to its content, which each kind of mount says in its own way.
  for (const name of ['', 'objects/nowhere']) {
    tree.lines.delete(name);
    theirs.splice(
      theirs.findIndex(([other]) => other === name),
      1,
    );
  }
  assert.deepEqual([...tree.lines].sort(), theirs.sort());
  assert.deepEqual(readFileSync(join(ours, 'big')), contentOf(BIG));

  // Everything is copied up, with all that it has: one attribute that is listed and not given would fail it.
  const before = new Map(tree.lines);
  for (const name of before.keys()) {
    const file = join(ours, Buffer.from(name, 'latin1').toString());
    if (name.includes('\xff') || name.startsWith('objects/')) continue;
    const { uid, gid } = lstatSync(file);
    lchownSync(file, uid, gid);
  }
  assert.ok(readdirSync(join(upper, 'many')).length === MANY);
  const after = treeOf(ours).lines;
  // chown(2) takes the set-user-id bit of a file that can be executed, and its capabilities.
  const kept = (line: string | undefined): string | undefined =>
    line
      ?.replace(/^file 4755/, 'file 755')
      .replace(/ atime=\S+/, '')
      .replace(/ same-as=\S+/, '')
      .replace(/nlink=\d+/, '');
  for (const [name, line] of before) assert.equal(kept(after.get(name)), kept(line), name);
  execFileSync('umount', [ours, memory, kernel, erofs]);
  return await served.end();
}

/** The kernel may evict a page between the gift of it and its use, though seldom; some do so with all memory free (DAMON). */
const ATTEMPTS = 5;

for (const version of [0, 1] as const) {
  test(`an overlay on top shows what kernel EROFS and overlayfs show, version ${version}`, {
    skip: skipOverlay,
  }, async (t) => {
    const reads: (number | undefined)[] = [];
    do {
      const seen = await throughOverlay(t, version);
      // The first small file that was opened said that opening is not asked for.
      assert.ok((seen.opens ?? 9) <= 1, `${seen.opens} opens`);
      reads.push(seen.reads);
    } while (reads.at(-1) !== 0 && reads.length < ATTEMPTS);
    assert.equal(reads.at(-1), 0, `small files were read by requests, each time: ${reads}`);
  });
}

test('a plain user mounts an overlay on it and reads content at its place', {
  skip: skipPlain,
}, (t) => {
  const folder = tempDir(t);
  const { image, objects } = makeSample(folder);
  for (const name of ['mnt', 'o', 'u', 'w']) {
    mkdirSync(join(folder, name));
    chownSync(join(folder, name), 1000, 1000);
  }
  chownSync(folder, 1000, 1000);
  const script = fileURLToPath(new URL('./serve-composefs.js', import.meta.url));
  const options = JSON.stringify({ image, objects: [objects], serve: 'metadata', verify: true });
  const commands = `
    cd "$0"
    "$1" "$2" "$0/mnt" "$3" > log 2>&1 &
    until grep -q ready log; do kill -0 $!; sleep 0.05; done
    mount -t overlay overlay -o userxattr,lowerdir=mnt::"$4",upperdir=u,workdir=w o
    cmp o/big "$5"
    cmp o/objects/by-redirect "$6"
    test "$(cat o/white/shown)" = abc
    getfattr -d -m - o/big o/white
    echo more >> o/big
    tail -c 5 o/big
    stat -c %s u/big
    umount o mnt
    wait
  `;
  const node = [process.execPath, script, options, objects];
  const expected = [BIG, 3000].map((size) => {
    const hex = join(objects, '..', `expected-${size}`);
    execFileSync('dd', ['status=none', `of=${hex}`], { input: contentOf(size) });
    return hex;
  });
  // /dev/fuse as udev makes it, open to everybody, in a mount namespace of its own; then the command.
  const openFuse =
    'mknod -m 666 "$0" c 10 229 && mount --bind "$0" /dev/fuse && rm "$0" && exec "$@"';
  const inside = ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups'];
  inside.push('unshare', '--user', '--map-root-user', '--mount', 'sh', '-ec', commands, folder);
  const command = ['--mount', 'sh', '-ec', openFuse, join(folder, 'fuse'), ...inside];
  const { status, stdout, stderr } = spawnSync('unshare', [...command, ...node, ...expected], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  const log = readFileSync(join(folder, 'log'), 'utf8');
  assert.equal(status, 0, `${stdout}${stderr}${log}`);
  // Unescaped once by the overlay; trusted attributes and marks are nobody's there.
  assert.match(
    stdout,
    /# file: o\/white\nuser\.overlay\.opaque="x"\nuser\.overlay\.whiteouts=""\n/,
  );
  assert.match(stdout, new RegExp(`more\\n${BIG + 5}\\n$`));
  const { opens } = JSON.parse(log.trim().split('\n').at(-1) as string) as { opens: number };
  assert.ok(opens <= 1, log);
});
