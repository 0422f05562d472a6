// `varve boot build` from end to end: what is in the mini-initramfs and in the images, read by the programs of others; the same
// input gives the same bytes; every form of an initramfs; and what is left when it fails.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { buildBoot } from '../../src/boot/build/build.js';
import { type BootManifest, readManifest } from '../../src/boot/build/manifest.js';
import { parseConfig } from '../../src/boot/config.js';
import { imageTree } from '../../src/erofs/to-tree.js';
import { MountError } from '../../src/stack/errors.js';
import { openImage } from '../../src/stack/image-open.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { readContent } from '../../src/tree/read-content.js';
import { find, sortedNames, type TreeNode } from '../../src/tree/tree.js';
import { MAIN } from '../cli/cli.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makeModules, makePayload, makeRequest, pack, RELEASE, withTree } from './build-parts.js';
import { sha256 } from './made-build.js';

const builds = { skip: requires({ packages: ['busybox-static', 'dmsetup', 'cpio'] }) };

function prepared(t: TestContext): string {
  const d = tempDir(t);
  makeModules(join(d, 'kernel'));
  makePayload(join(d, 'payload'));
  return d;
}

const text = (root: TreeNode, path: string): string => {
  const node = find(root, path);
  assert.ok(node, `${path} is not there`);
  return readContent(node).toString('latin1');
};

/** Files of a folder -> what tells their bytes from others. */
const digestsIn = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, sha256(readFileSync(join(folder, name)))]),
  );

function sameTree(image: string, source: string): void {
  const opened = openImage(image);
  try {
    const tree = imageTree(opened.image, opened.image.inode(opened.image.rootNid));
    withTree(source, (root) => {
      assert.equal(showDifferences(compareTrees(root, tree)), '');
    });
  } finally {
    opened.close();
  }
}

const whole = {
  skip: requires({
    packages: ['busybox-static', 'dmsetup', 'cpio', 'erofs-utils', 'lz4', 'cryptsetup-bin'],
  }),
};

test('a tree becomes a mini-initramfs, an image and what belongs to them', whole, async (t) => {
  const d = prepared(t);
  const manifest = await buildBoot(makeRequest(d));
  const out = join(d, 'out');
  assert.deepEqual(readdirSync(out).sort(), [
    'boot.json',
    'initoverlayfs.conf',
    'initoverlayfs.img',
    'initramfs.img',
  ]);
  assert.deepEqual(readManifest(out), manifest);
  assert.equal(manifest.release, RELEASE);
  const config = parseConfig(readFileSync(join(out, 'initoverlayfs.conf'), 'utf8'), 'conf');
  assert.deepEqual(config, manifest.config);

  const image = join(out, 'initoverlayfs.img');
  sameTree(image, join(d, 'payload'));
  execFileSync('fsck.erofs', [image], { stdio: 'pipe' });
  const { roothash, hashOffset } = manifest.layers[0]?.verity ?? assert.fail('no hash tree');
  execFileSync('veritysetup', ['verify', image, image, roothash, `--hash-offset=${hashOffset}`]);

  const list = execFileSync(
    'sh',
    ['-c', 'lz4cat "$0" | cpio -t --quiet', join(out, 'initramfs.img')],
    {
      encoding: 'utf8',
    },
  ).split('\n');
  const place = `lib/modules/${RELEASE}`;
  const modules = [
    'kernel/drivers/virtio/virtio_ring.ko',
    'kernel/drivers/virtio/virtio.ko',
    'kernel/drivers/virtio/virtio_pci.ko',
    'kernel/drivers/block/virtio_blk.ko',
    'kernel/drivers/scsi/sd_mod.ko',
    'kernel/crypto/crc32c_generic.ko',
    'kernel/lib/libcrc32c.ko',
    'kernel/fs/erofs/erofs.ko',
    'kernel/fs/overlayfs/overlay.ko',
    'kernel/drivers/block/loop.ko',
    'kernel/drivers/md/dm-mod.ko',
    'kernel/drivers/md/dm-verity.ko',
  ];
  for (const path of ['init', 'bin/busybox', 'bin/sh', 'bin/dmsetup', 'dev', 'proc', 'varve']) {
    assert.ok(list.includes(path), path);
  }
  for (const path of modules) assert.ok(list.includes(`${place}/${path}`), path);
  assert.deepEqual(manifest.initramfs.modules, modules);
  withTree(join(out, 'initramfs.img'), (root) => {
    assert.equal(text(root, 'etc/varve/modules'), modules.map((one) => `${one}\n`).join(''));
    assert.equal(text(root, `${place}/${modules[0]}`), `module ${modules[0]}\n`);
    assert.equal(
      text(root, 'etc/initoverlayfs.conf'),
      readFileSync(join(out, 'initoverlayfs.conf'), 'utf8'),
    );
  });
});

test('a mini-initramfs has what its programs need, and runs', builds, async (t) => {
  const d = prepared(t);
  await buildBoot(makeRequest(d, { miniCompress: 'none' }));
  const root = join(d, 'mini');
  mkdirSync(root);
  execFileSync('sh', ['-c', 'cpio -id --quiet <"$0"', join(d, 'out/initramfs.img')], { cwd: root });
  const applets = readdirSync(join(root, 'bin')).filter(
    (name) => !['busybox', 'dmsetup'].includes(name),
  );
  const known = new Set(
    execFileSync(join(root, 'bin/busybox'), ['--list'], { encoding: 'utf8' }).split('\n'),
  );
  assert.deepEqual(
    applets.filter((name) => !known.has(name)),
    [],
  );
  const loader = readdirSync(join(root, 'lib64')).map((name) => join(root, 'lib64', name));
  const [program] = loader;
  assert.ok(program);
  const folders = readdirSync(join(root, 'lib')).map((name) => join(root, 'lib', name));
  const args = [
    '--inhibit-cache',
    '--library-path',
    folders.join(':'),
    '--list',
    join(root, 'bin/dmsetup'),
  ];
  const found = execFileSync(program, args, { encoding: 'utf8' });
  const elsewhere = found.split('\n').filter((line) => / => \//.test(line) && !line.includes(root));
  assert.deepEqual(elsewhere, []);
});

test('the same input gives the same bytes, whatever TMPDIR and umask are', builds, async (t) => {
  const d = prepared(t);
  const archive = join(d, 'in.img');
  writeFileSync(archive, pack(join(d, 'payload')));
  execFileSync('zstd', ['-q', '--rm', archive, '-o', `${archive}.zst`]);
  const changes = { source: { initramfs: `${archive}.zst` }, layers: [join(d, 'payload')] };
  await buildBoot(makeRequest(d, changes));
  const first = digestsIn(join(d, 'out'));
  const before = { umask: process.umask(0o077), tmpdir: process.env['TMPDIR'] };
  t.after(() => {
    process.umask(before.umask);
    if (before.tmpdir === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before.tmpdir;
  });
  process.env['TMPDIR'] = join(d, 'elsewhere');
  mkdirSync(join(d, 'elsewhere'));
  await buildBoot(makeRequest(d, { ...changes, out: join(d, 'elsewhere/again') }));
  assert.deepEqual(digestsIn(join(d, 'elsewhere/again')), first);
});

const EVERY: readonly [string, string][] = [
  ['plain', 'cat'],
  ['gzip', 'gzip -c'],
  ['zstd', 'zstd -qc'],
  ['lz4', 'lz4 -lc'],
  ['xz', 'xz -c --check=crc32'],
];

const packed = {
  skip: requires({ packages: ['busybox-static', 'dmsetup', 'cpio', 'zstd', 'lz4', 'xz-utils'] }),
};

test('microcode stays in front, whatever the compression of what follows', packed, async (t) => {
  const d = prepared(t);
  const microcode = join(d, 'microcode');
  mkdirSync(join(microcode, 'kernel/x86/microcode'), { recursive: true });
  writeFileSync(join(microcode, 'early_cpio'), '1\n');
  writeFileSync(join(microcode, 'kernel/x86/microcode/GenuineIntel.bin'), 'microcode');
  const early = pack(microcode);
  const main = pack(join(d, 'payload'));
  const further = join(d, 'further');
  mkdirSync(further);
  writeFileSync(join(further, 'more'), 'more');
  for (const [name, command] of EVERY) {
    const body = execFileSync('sh', ['-c', command], { input: main, maxBuffer: 1 << 28 });
    const last = execFileSync('sh', ['-c', command], { input: pack(further), maxBuffer: 1 << 28 });
    const padding = Buffer.alloc(512 - (body.length % 512));
    const path = join(d, `${name}.img`);
    writeFileSync(path, Buffer.concat([early, body, padding, last]));
    const manifest = await buildBoot(makeRequest(d, { source: { initramfs: path } }));
    const mini = readFileSync(join(d, 'out/initramfs.img'));
    assert.equal(manifest.initramfs.early, early.length, name);
    assert.ok(mini.subarray(0, early.length).equals(early), name);
    const opened = openImage(join(d, 'out/initoverlayfs.img'));
    t.after(() => opened.close());
    const tree = imageTree(opened.image, opened.image.inode(opened.image.rootNid));
    assert.deepEqual(sortedNames(tree), ['bin', 'empty', 'init', 'more', 'usr'], name);
  }
});

test('layers: trees and images that are ready, lowest first, and embedded', builds, async (t) => {
  const d = prepared(t);
  await buildBoot(makeRequest(d, { out: join(d, 'ready') }));
  const vendor = join(d, 'vendor.d');
  mkdirSync(vendor);
  writeFileSync(join(vendor, 'driver'), 'vendor');
  const layers = [vendor, join(d, 'ready/initoverlayfs.img')];
  const apart = await buildBoot(makeRequest(d, { layers, verify: 'digest' }));
  const names = ['initoverlayfs.img', 'vendor.d.img', 'initoverlayfs-2.img'];
  assert.deepEqual(
    apart.layers.map(({ file }) => file),
    names,
  );
  assert.deepEqual(
    apart.config.layers.map(({ fs }) => fs),
    names.map((name) => `/${name}`),
  );
  assert.equal(apart.layers[2]?.payload.inodes, apart.layers[0]?.payload.inodes);

  const inside = await buildBoot(makeRequest(d, { layers, verify: 'digest', embed: true }));
  assert.deepEqual(readdirSync(join(d, 'out')).sort(), [
    'boot.json',
    'initoverlayfs.conf',
    'initramfs.img',
  ]);
  assert.equal(inside.config.bootfs, 'initrd');
  assert.equal(
    inside.initramfs.modules.some((one) => one.includes('virtio')),
    false,
  );
  const mini = readFileSync(join(d, 'out/initramfs.img'));
  inside.layers.forEach(({ offset = 0, size, sha256 }, i) => {
    assert.equal(sha256, apart.layers[i]?.sha256);
    const there = readFileSync(join(d, 'ready/initoverlayfs.img')).subarray(0, size);
    if (i !== 1 && size === there.length)
      assert.ok(mini.subarray(offset, offset + size).equals(there));
  });
  withTree(join(d, 'out/initramfs.img'), (root) => {
    assert.deepEqual(sortedNames(find(root, 'images') as TreeNode), names.toSorted());
  });
});

const btrfs = {
  skip: requires({ packages: ['busybox-static', 'dmsetup', 'btrfs-progs'], root: true }),
};

test('a btrfs image', btrfs, async (t) => {
  const d = prepared(t);
  const manifest = await buildBoot(makeRequest(d, { format: 'btrfs' }));
  const image = join(d, 'out/initoverlayfs.img');
  const { hashOffset } = manifest.layers[0]?.verity ?? assert.fail('no hash tree');
  truncateSync(image, hashOffset);
  execFileSync('btrfs', ['check', '--readonly', image], { stdio: 'pipe' });
  const restored = join(d, 'restored');
  mkdirSync(restored);
  execFileSync('btrfs', ['restore', '--symlinks', '--metadata', image, restored], {
    stdio: 'pipe',
  });
  assert.equal(readFileSync(join(restored, 'init'), 'utf8'), '#!/bin/sh\necho up\n');
  assert.ok(manifest.initramfs.modules.includes('kernel/fs/btrfs/btrfs.ko'));
});

interface Wrong {
  readonly what: string;
  readonly make: (d: string) => Parameters<typeof makeRequest>[1];
  readonly says: RegExp;
}

const file = (d: string, bytes: Uint8Array | string): { source: { initramfs: string } } => {
  const path = join(d, 'wrong.img');
  writeFileSync(path, bytes);
  return { source: { initramfs: path } };
};

const WRONG: readonly Wrong[] = [
  { what: 'empty', make: (d) => file(d, ''), says: /wrong\.img: is empty: name an initramfs/ },
  {
    what: 'no archive',
    make: (d) => file(d, 'something else, and long enough to be looked at'),
    says: /wrong\.img: cpio header at byte 0: .*an initramfs is wanted/,
  },
  {
    what: 'cut off',
    make: (d) => file(d, pack(join(d, 'payload')).subarray(0, 200_000)),
    says: /wrong\.img: .*ends too early/,
  },
  {
    what: 'cut off, compressed',
    make: (d) => {
      const input = pack(join(d, 'payload'));
      const packedOnes = execFileSync('gzip', ['-c'], { input, maxBuffer: 1 << 28 });
      return file(d, packedOnes.subarray(0, packedOnes.length - 100));
    },
    says: /wrong\.img: the gzip data ends too early/,
  },
  {
    what: 'a folder',
    make: (d) => ({ source: { initramfs: d } }),
    says: /is a directory: name it by --root/,
  },
  {
    what: 'nothing',
    make: (d) => ({ source: { initramfs: join(d, 'none') } }),
    says: /none: no such file or directory: name an initramfs/,
  },
  {
    what: 'without /init',
    make: (d) => ({ source: { root: join(d, 'kernel') } }),
    says: /kernel: has no \/init, which would be started: name an initramfs/,
  },
  {
    what: 'an /init that cannot run',
    make: (d) => {
      chmodSync(join(d, 'payload/init'), 0o644);
      return {};
    },
    says: /payload: its \/init is no program/,
  },
  {
    what: 'microcode alone',
    make: (d) => {
      mkdirSync(join(d, 'early/kernel/x86'), { recursive: true });
      writeFileSync(join(d, 'early/kernel/x86/m.bin'), 'x');
      return file(d, pack(join(d, 'early')));
    },
    says: /wrong\.img .*it is empty: an initramfs is wanted/,
  },
  {
    what: 'a storage',
    make: () => ({ storage: ['tape'] }),
    says: /storage tape: is no kind of storage and no module of kernel 6\.1\.0-stone: kinds are virtio, nvme/,
  },
  {
    what: 'a storage that the kernel lacks',
    make: () => ({ storage: ['nvme'] }),
    says: /storage nvme: the kernel 6\.1\.0-stone has none of nvme/,
  },
  {
    what: 'a filesystem',
    make: () => ({ bootfstype: 'xfs' }),
    says: /bootfstype xfs: the kernel 6\.1\.0-stone has no module xfs/,
  },
  {
    what: 'a kernel',
    make: (d) => ({ modules: { folder: join(d, 'kernel'), release: '9.9' } }),
    says: /has no modules of kernel 9\.9: there are those of 6\.1\.0-stone/,
  },
  {
    what: 'modules',
    make: (d) => ({ modules: { folder: join(d, 'payload') } }),
    says: /has no modules of a kernel: there are none: name --kernel-modules/,
  },
  {
    what: 'a compression',
    make: () => ({ compress: 'arj' }),
    says: /-z: unknown compression "arj"/,
  },
  {
    what: 'raw with layers',
    make: (d) => ({ raw: true, layers: [d] }),
    says: /--raw: the device is one image/,
  },
  {
    what: 'a signature without certificate',
    make: () => ({ verify: 'signature' }),
    says: /--verify signature: .*--cert/,
  },
  {
    what: 'a fallback that nobody named',
    make: () => ({ onFailure: 'fallback' }),
    says: /name it by --fallback/,
  },
  {
    what: 'a path with a line break',
    make: () => ({ pathInBootfs: '/a\nraw yes' }),
    says: /raw yes: must be a plain absolute path/,
  },
  { what: 'a size', make: () => ({ overlaySize: 'much' }), says: /--overlay-size=much/ },
  { what: 'a device', make: () => ({ bootfs: 'sda1' }), says: /bootfs sda1: must be UUID=/ },
  {
    what: 'a layer',
    make: (d) => ({ layers: [join(d, 'none')] }),
    says: /none: is not there: name a layer/,
  },
];

for (const { what, make, says } of WRONG) {
  test(`refused, and nothing is left: ${what}`, builds, async (t) => {
    const d = prepared(t);
    const request = makeRequest(d, make(d));
    const before = readdirSync(d).sort();
    await assert.rejects(buildBoot(request), (error: Error) => {
      assert.ok(error instanceof MountError, error.stack);
      assert.match(error.message, says);
      return true;
    });
    assert.deepEqual(readdirSync(d).sort(), before);
  });
}

/** A build by the command line. */
const words = (d: string): string[] => [
  ...['boot', 'build', '--root', join(d, 'payload'), '--kernel-modules', join(d, 'kernel')],
  ...['--storage', 'virtio', '--bootfs', 'LABEL=boot', '-o', join(d, 'out')],
];

test('OUTDIR of an earlier build is replaced, anything else is not', builds, async (t) => {
  const d = prepared(t);
  const out = join(d, 'out');
  mkdirSync(out);
  await buildBoot(makeRequest(d));
  const first = readManifest(out);
  writeFileSync(join(d, 'payload/new'), 'new');
  await buildBoot(makeRequest(d));
  assert.notEqual(readManifest(out).layers[0]?.sha256, first.layers[0]?.sha256);
  // By a symlink, what it leads to.
  const link = join(tempDir(t), 'link');
  symlinkSync(out, link);
  writeFileSync(join(d, 'payload/new'), 'newer');
  const { layers } = await buildBoot(makeRequest(d, { out: link }));
  assert.equal(readlinkSync(link), out);
  assert.equal(readManifest(out).layers[0]?.sha256, layers[0]?.sha256);

  writeFileSync(join(out, 'vmlinuz.efi'), 'of somebody');
  const before = digestsIn(out);
  await assert.rejects(buildBoot(makeRequest(d)), /vmlinuz\.efi: is not of varve boot build/);
  assert.deepEqual(digestsIn(out), before);
  await assert.rejects(
    buildBoot(makeRequest(d, { out: join(d, 'payload') })),
    /payload: is there, and no folder of varve boot build/,
  );
  const names = readdirSync(d).sort();
  assert.deepEqual(names, ['kernel', 'out', 'payload']);
});

test(
  'a signal leaves the old OUTDIR and nothing else; after SIGKILL the next build takes away the rest',
  builds,
  async (t) => {
    const d = prepared(t);
    const run = spawnSync(process.execPath, [MAIN, ...words(d), '--json'], { encoding: 'utf8' });
    assert.equal(run.status, 0, run.stderr);
    const manifest = JSON.parse(run.stdout) as BootManifest;
    assert.deepEqual(readManifest(join(d, 'out')), manifest);
    const before = digestsIn(join(d, 'out'));
    // Enough for the build to be met while it writes.
    writeFileSync(join(d, 'payload/large'), randomBytes(15_000_000).toString('hex'));
    const underWay = () => readdirSync(d).filter((name) => name.startsWith('.out.varve-'));
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const child = spawn(process.execPath, [MAIN, ...words(d), '-z', 'lz4hc,12'], {
        stdio: 'ignore',
      });
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      while (underWay().length === 0 && child.exitCode === null) {
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      assert.equal(child.exitCode, null, 'the build was over before it could be met');
      child.kill(signal);
      await ended;
      assert.deepEqual(digestsIn(join(d, 'out')), before, signal);
      assert.equal(underWay().length, signal === 'SIGKILL' ? 1 : 0, signal);
    }
    rmSync(join(d, 'payload/large'));
    utimesSync(join(d, 'payload'), 1_700_000_000, 1_700_000_000);
    assert.equal(spawnSync(process.execPath, [MAIN, ...words(d)]).status, 0);
    assert.deepEqual(underWay(), []);
    assert.deepEqual(digestsIn(join(d, 'out')), before);
  },
);

const mounts = {
  skip: requires({
    packages: ['busybox-static', 'dmsetup', 'cpio'],
    root: true,
    features: ['tmpfs'],
  }),
};

test('a filesystem without room is said, and nothing is left on it', mounts, async (t) => {
  const d = prepared(t);
  const small = join(d, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'small', small]);
  await assert.rejects(
    buildBoot(makeRequest(d, { out: join(small, 'out') })),
    /small\/out: its filesystem is full: make room, or name another folder/,
  );
  assert.deepEqual(readdirSync(small), []);
});

const kernelMounts = {
  skip: requires({
    packages: ['busybox-static', 'dmsetup', 'cpio'],
    root: true,
    features: ['erofs', 'loop'],
  }),
};

test('the kernel shows the tree that was given', kernelMounts, async (t) => {
  const d = prepared(t);
  await buildBoot(makeRequest(d));
  const seen = join(d, 'seen');
  mkdirSync(seen);
  execFileSync('mount', ['-t', 'erofs', '-o', 'ro,loop', join(d, 'out/initoverlayfs.img'), seen]);
  withTree(join(d, 'payload'), (wanted) => {
    withTree(seen, (root) => assert.equal(showDifferences(compareTrees(wanted, root)), ''));
  });
});

test('programs that switch the root are replaced, and only they', builds, async (t) => {
  const d = prepared(t);
  const bin = join(d, 'payload/usr/bin');
  writeFileSync(join(bin, 'busybox'), 'busybox', { mode: 0o755 });
  symlinkSync('busybox', join(bin, 'switch_root'));
  writeFileSync(join(d, 'payload/usr/switch_root'), 'no program');
  const init =
    '#!/bin/sh\n# run-init is called below\nrun-init -n /root x && exec busybox switch_root /root /init\n';
  writeFileSync(join(d, 'payload/init'), init);
  await buildBoot(makeRequest(d));
  const opened = openImage(join(d, 'out/initoverlayfs.img'));
  t.after(() => opened.close());
  const tree = imageTree(opened.image, opened.image.inode(opened.image.rootNid));
  assert.equal(find(tree, 'usr/bin/switch_root')?.target, '/usr/lib/varve/switch_root');
  assert.equal(find(tree, 'usr/bin/.varve/switch_root')?.target, '../busybox');
  assert.equal(find(tree, 'usr/lib/varve/run-init')?.target, 'switch_root');
  assert.deepEqual(sortedNames(find(tree, 'usr/lib/varve') as TreeNode), [
    'busybox',
    'run-init',
    'switch_root',
  ]);
  assert.ok(find(tree, 'usr/switch_root'));
  assert.equal(find(tree, '.varve/init')?.size, init.length);
  const size = find(tree, 'init')?.size ?? 0;
  assert.equal(size, init.length + 2 * '/usr/lib/varve/'.length - 'busybox '.length);
  // Built again of what was built, it stays as it is.
  const again = join(d, 'again');
  execFileSync(process.execPath, [
    MAIN,
    'image',
    'extract',
    join(d, 'out/initoverlayfs.img'),
    again,
  ]);
  await buildBoot(makeRequest(d, { source: { root: again } }));
  sameTree(join(d, 'out/initoverlayfs.img'), again);
});
