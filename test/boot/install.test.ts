// `varve boot install` and `remove`: what lies in the boot filesystem, in which order, and what a killed call leaves.
// The oracle is a machine that boots: an initramfs under the loader's name is complete, or every image that it names is there whole.
// `npm test -- --rounds 200 boot/install` kills that often at random; in CI every step once, and a few at random.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { release as runningRelease } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type InstallRequest, installBuild } from '../../src/boot/install/install.js';
import { bootPlace } from '../../src/boot/install/places.js';
import { type Disk, REAL_DISK } from '../../src/boot/install/publish.js';
import { type RemoveRequest, removeInstalled } from '../../src/boot/install/remove.js';
import { parseSettings } from '../../src/boot/install/settings.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { type Cleanup, tempDir } from '../support/temp.js';
import {
  assertBoots,
  configIn,
  filesBelow,
  makeBuild,
  noise,
  RELEASE,
  sha256,
} from './made-build.js';

const once = fileURLToPath(new URL('./install-once.js', import.meta.url));
const none = new Uint8Array(0);
const NAME = `initrd.img-${RELEASE}`;

function places(t: Cleanup): { out: string; boot: string; prefix: string } {
  const folder = tempDir(t);
  const boot = join(folder, 'boot');
  mkdirSync(boot);
  return { out: join(folder, 'out'), boot, prefix: bootPlace(boot).prefix };
}

const install = (outdir: string, boot: string, more: Partial<InstallRequest> = {}) =>
  installBuild({
    outdir,
    boot,
    root: '/nowhere',
    settings: parseSettings('', 'none'),
    keepFull: true,
    force: false,
    ...more,
  });

const remove = (boot: string, more: Partial<RemoveRequest> = {}) =>
  removeInstalled({ boot, root: '/nowhere', force: false, ...more });

test('what the mini-initramfs cannot unpack is kept, but not fallen back to', async (t) => {
  const { out, boot } = places(t);
  const packed = Buffer.concat([Buffer.from('28b52ffd', 'hex'), noise(5000, 79)]);
  writeFileSync(join(boot, NAME), packed);
  makeBuild(out);
  const { remarks } = await install(out, boot, { as: NAME });
  assert.match(remarks[0] ?? '', /is not fallen back to: the mini-initramfs has no zstd/);
  const { fallback, onFailure } = configIn(join(boot, NAME));
  assert.equal(fallback, undefined);
  assert.notEqual(onFailure, 'fallback');
  await remove(boot);
  assert.ok(readFileSync(join(boot, NAME)).equals(packed));
});

test('images lie under names of their content, the initramfs names them, and remove leaves nothing', async (t) => {
  const { out, boot, prefix } = places(t);
  writeFileSync(join(boot, 'vmlinuz'), 'kernel');
  const manifest = makeBuild(out, { images: ['initoverlayfs.img', 'site.img'] });
  const { installed, remarks } = await install(out, boot);
  const digests = manifest.layers.map((layer) => layer.sha256);
  assert.deepEqual(assertBoots(boot, `initramfs-varve-${RELEASE}.img`, prefix, none), digests);
  assert.deepEqual(filesBelow(boot), [
    `initramfs-varve-${RELEASE}.img`,
    `varve/${RELEASE}.installed.json`,
    `varve/initoverlayfs-${digests[0]?.slice(0, 16)}.img`,
    `varve/site-${digests[1]?.slice(0, 16)}.img`,
    'vmlinuz',
  ]);
  assert.match(remarks.join(), /no loader\/entries: name .*initramfs-varve-/);
  assert.equal(installed.entry, undefined);
  assert.equal((await install(out, boot)).written, 0, 'the same once more writes nothing');
  const removed = await remove(boot);
  assert.deepEqual(removed.left, []);
  assert.deepEqual(filesBelow(boot), ['vmlinuz']);
  assert.equal(existsSync(join(boot, 'varve')), false);
  await assert.rejects(remove(boot), { kind: 'absent' });
});

test('a second build takes the place of the first; kernels share images', async (t) => {
  const { out, boot, prefix } = places(t);
  makeBuild(out, { seed: 1 });
  await install(out, boot);
  makeBuild(out, { seed: 1, release: 'other' });
  await install(out, boot);
  assert.equal(filesBelow(join(boot, 'varve')).filter((name) => name.endsWith('.img')).length, 1);
  makeBuild(out, { seed: 2 });
  await install(out, boot);
  assertBoots(boot, `initramfs-varve-${RELEASE}.img`, prefix, none);
  assertBoots(boot, 'initramfs-varve-other.img', prefix, none);
  await assert.rejects(remove(boot), /has boot images of 6.1.0-test, other: name one by --kver/);
  await remove(boot, { release: RELEASE });
  assertBoots(boot, 'initramfs-varve-other.img', prefix, none);
  await assert.rejects(install(out, boot, { as: 'initramfs-varve-other.img' }), {
    kind: 'option',
    message: /is that of kernel other/,
  });
  await remove(boot);
  assert.deepEqual(filesBelow(boot), []);
});

test('the complete initramfs whose name is taken is the fallback, and comes back', async (t) => {
  const { out, boot, prefix } = places(t);
  const complete = noise(50_000, 77);
  writeFileSync(join(boot, NAME), complete);
  makeBuild(out);
  const first = await install(out, boot, { as: 'initrd.img-%v' });
  const { fallback } = configIn(join(boot, NAME));
  assert.equal(fallback?.digest, sha256(complete));
  assert.ok(readFileSync(join(boot, fallback.path.slice(prefix.length))).equals(complete));
  assert.equal(first.remarks.length, 0);
  // The distribution makes a new one in our place; the next install keeps that, and drops the old one.
  const newer = noise(50_000, 78);
  writeFileSync(join(boot, NAME), newer);
  await install(out, boot, { as: NAME });
  assert.equal(configIn(join(boot, NAME)).fallback?.digest, sha256(newer));
  assert.equal(filesBelow(boot).filter((name) => name.includes('full-')).length, 1);
  const { restored } = await remove(boot);
  assert.equal(restored, NAME);
  assert.ok(readFileSync(join(boot, NAME)).equals(newer));
  assert.deepEqual(filesBelow(boot), [NAME]);

  await install(out, boot, { as: NAME, keepFull: false });
  assert.equal(configIn(join(boot, NAME)).fallback, undefined);
  await remove(boot);
  assert.deepEqual(filesBelow(boot), []);
});

test('what was changed since stays and is named; the running kernel is refused', async (t) => {
  const { out, boot } = places(t);
  makeBuild(out, { release: runningRelease() });
  await install(out, boot);
  await assert.rejects(remove(boot, { root: '/' }), { kind: 'busy', message: /--force/ });
  const name = `initramfs-varve-${runningRelease()}.img`;
  appendFileSync(join(boot, name), 'mine');
  assert.deepEqual((await remove(boot)).left, [name]);
  assert.deepEqual(filesBelow(boot), [name]);
  await install(out, boot, { as: 'x.img' });
  appendFileSync(join(boot, 'x.img'), 'mine');
  assert.deepEqual((await remove(boot, { root: '/', force: true })).left, []);
});

test('a new signature of the same image lies beside the old one until the initramfs has changed', async (t) => {
  const { out, boot } = places(t);
  makeBuild(out, { signed: true });
  const first = await install(out, boot);
  assert.equal(first.installed.images.length, 3);
  writeFileSync(join(out, 'initoverlayfs.img.verity.p7s'), 'another key');
  const second = await install(out, boot);
  assert.notEqual(first.installed.images[0]?.path, second.installed.images[0]?.path);
  assert.equal(filesBelow(join(boot, 'varve')).length, 4, 'three files and the record');
});

test('images of the build before stay for one more install where that is asked for', async (t) => {
  const { out, boot } = places(t);
  const images = async (seed: number, keepOld: boolean): Promise<number> => {
    makeBuild(out, { seed });
    await install(out, boot, { keepOld });
    return filesBelow(join(boot, 'varve')).filter((name) => name.endsWith('.img')).length;
  };
  assert.equal(await images(1, true), 1);
  assert.equal(await images(2, true), 2);
  assert.equal(await images(2, true), 2, 'the same build once more');
  assert.equal(await images(3, true), 2);
  assert.equal(await images(4, false), 1);
  assert.equal(await images(5, true), 2);
  await remove(boot);
  assert.deepEqual(filesBelow(boot), []);
});

test('an embedded build is its initramfs alone', async (t) => {
  const { out, boot } = places(t);
  const manifest = makeBuild(out, { embedded: true });
  await install(out, boot);
  assert.equal(
    sha256(readFileSync(join(boot, `initramfs-varve-${RELEASE}.img`))),
    manifest.initramfs.sha256,
  );
  assert.equal(filesBelow(boot).length, 2);
});

test('entries of the Boot Loader Specification: after the model of the one there is, else of the files of kernel-install', async (t) => {
  const { out, boot, prefix } = places(t);
  const root = join(boot, '../root');
  mkdirSync(join(boot, 'loader/entries'), { recursive: true });
  mkdirSync(join(root, 'etc/kernel'), { recursive: true });
  writeFileSync(join(root, 'etc/kernel/cmdline'), 'root=LABEL=x  quiet\n');
  writeFileSync(join(root, 'etc/os-release'), 'ID=x\nPRETTY_NAME="Some Linux"\n');
  makeBuild(out);
  const without = await install(out, boot, { root });
  assert.match(without.remarks.join(), /has no kernel 6.1.0-test/);
  writeFileSync(join(boot, `vmlinuz-${RELEASE}`), 'kernel');
  const { installed } = await install(out, boot, { root });
  const entry = join(boot, `loader/entries/varve-${RELEASE}.conf`);
  assert.equal(installed.entry?.path, `loader/entries/varve-${RELEASE}.conf`);
  assert.equal(
    readFileSync(entry, 'utf8'),
    `title      Some Linux (varve)
version    ${RELEASE}
options    root=LABEL=x quiet
linux      ${prefix}/vmlinuz-${RELEASE}
initrd     ${prefix}/initramfs-varve-${RELEASE}.img
`,
  );
  writeFileSync(
    join(boot, 'loader/entries/abc.conf'),
    `title Debian\nversion ${RELEASE}\nmachine-id abc\nlinux /abc/linux\ninitrd /intel-ucode.img\ninitrd /abc/initrd\noptions ro\n`,
  );
  await install(out, boot, { root });
  assert.equal(
    readFileSync(entry, 'utf8'),
    `title      Debian (varve)
version    ${RELEASE}
machine-id abc
linux      /abc/linux
initrd     /intel-ucode.img
options    ro
initrd     ${prefix}/initramfs-varve-${RELEASE}.img
`,
  );
  await remove(boot);
  assert.equal(existsSync(entry), false);
});

test('settings: what cannot be meant is refused, with its line', () => {
  const settings = parseSettings(
    '# x\nbootfs PATH=/dev/vda1\nfs /i/%n-%h.img\n\nlayer /a\nlayer /b\n',
    'f',
  );
  assert.equal(settings.bootfs, '/dev/vda1');
  assert.deepEqual(settings.layers, ['/a', '/b']);
  for (const [text, message] of [
    ['fs /fixed.img', /f:1: fs \/fixed.img: must be a path with %h/],
    ['x 1', /f:1: x: one of bootfs/],
    ['\nbootfs somewhere', /f: bootfs somewhere: must be UUID=/],
    ['update yes\nupdate no', /f:2: update is said twice/],
    ['as ../x\nas /x', /f:2: as \/x/],
  ] as const) {
    assert.throws(() => parseSettings(text, 'f'), message);
  }
});

/** Hundreds of installs need no disk. */
const UNSYNCED: Disk = { ...REAL_DISK, sync: () => {} };

/** A disk on which nothing more happens from a step on, as for one who is killed there: nobody cleans up either. */
function endingDisk(last: number): { disk: Disk; steps: () => number } {
  let steps = 0;
  const step = (): void => {
    if (++steps >= last) throw new Ended();
  };
  return { disk: { ...UNSYNCED, step }, steps: () => steps };
}

class Ended extends Error {}

/** @returns whether it came to its end before. */
async function endedAt(last: number, work: (disk: Disk) => Promise<unknown>): Promise<boolean> {
  const { disk, steps } = endingDisk(last);
  try {
    await work(disk);
  } catch (error) {
    const cause = error instanceof Ended ? error : (error as Error).cause;
    assert.ok(cause instanceof Ended, `step ${last}: ${error}`);
    return false;
  }
  assert.ok(steps() > 10, `${steps()} steps`);
  return true;
}

test('ended at every step: the old boot or the new one, and the next call leaves no trace of it', async (t) => {
  const { out, boot, prefix } = places(t);
  const complete = noise(30_000, 5);
  writeFileSync(join(boot, NAME), complete);
  mkdirSync(join(boot, 'loader/entries'), { recursive: true });
  makeBuild(out, { seed: 1 });
  makeBuild(`${out}2`, { seed: 2 });
  makeBuild(`${out}3`, { seed: 3, release: 'other', size: 5000 });
  const begin = `${boot}.begin`;
  cpSync(boot, begin, { recursive: true });
  await install(out, boot, { as: NAME, disk: UNSYNCED });
  const middle = `${boot}.middle`;
  cpSync(boot, middle, { recursive: true });
  const seen = new Set<string>();
  // From nothing to the first, and from the first to the second.
  for (const [from, outdir] of [
    [begin, out],
    [middle, `${out}2`],
  ] as const) {
    let isDone = false;
    for (let step = 1; !isDone; step++) {
      restore(from, boot);
      isDone = await endedAt(step, (disk) => install(outdir, boot, { as: NAME, disk }));
      seen.add(assertBoots(boot, NAME, prefix, complete).join());
      // An install for another kernel cleans up, whether it is ended, too, or not.
      await endedAt(step, (disk) => install(`${out}3`, boot, { disk }));
      assertBoots(boot, NAME, prefix, complete);
      await install(`${out}3`, boot, { disk: UNSYNCED });
      assertBoots(boot, NAME, prefix, complete);
      await remove(boot, { release: 'other', disk: UNSYNCED });
      assertTidy(boot, step);
    }
  }
  assert.equal(seen.size, 3, 'the complete one, the first and the second');
});

test('a remove that ends at any step leaves a boot, and is done by the next one', async (t) => {
  const { out, boot, prefix } = places(t);
  const complete = noise(30_000, 5);
  writeFileSync(join(boot, NAME), complete);
  makeBuild(out);
  await install(out, boot, { as: NAME, disk: UNSYNCED });
  const installed = `${boot}.installed`;
  cpSync(boot, installed, { recursive: true });
  for (let step = 1, isDone = false; !isDone; step++) {
    restore(installed, boot);
    const { disk } = endingDisk(step);
    isDone = await removeInstalled({ boot, root: '/nowhere', force: false, disk }).then(
      () => true,
      () => false,
    );
    assertBoots(boot, NAME, prefix, complete);
    // Ended while the folder of the record is synced, all is done.
    const isLeft = existsSync(join(boot, `varve/${RELEASE}.installed.json`));
    if (isLeft) assert.deepEqual((await remove(boot, { disk: UNSYNCED })).left, [], `step ${step}`);
    assert.deepEqual(filesBelow(boot), [NAME]);
    assert.ok(readFileSync(join(boot, NAME)).equals(complete));
  }
});

test('killed at random, in the end everything can be removed', async (t) => {
  const { out, boot, prefix } = places(t);
  const complete = noise(30_000, 5);
  writeFileSync(join(boot, NAME), complete);
  for (const seed of [1, 2]) makeBuild(`${out}${seed}`, { seed, size: 4_000_000 });
  const rounds = campaign('rounds', 8);
  for (let round = 0; round < rounds; round++) {
    const child = spawn(process.execPath, [once, `${out}${1 + (round % 2)}`, boot, NAME], {
      stdio: 'ignore',
    });
    const closed = new Promise((resolve) => child.once('close', resolve));
    const timer = setTimeout(() => child.kill('SIGKILL'), 60 + ((round * 37) % 120));
    await closed;
    clearTimeout(timer);
    assertBoots(boot, NAME, prefix, complete);
  }
  await install(`${out}1`, boot, { as: NAME });
  assertTidy(boot, rounds);
  await remove(boot);
  assert.deepEqual(filesBelow(boot), [NAME]);
});

test('without space nothing is written; where it runs out in between nothing is left', {
  skip: requires({ root: true, features: ['tmpfs'] }),
}, async (t) => {
  const { out, boot } = places(t);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1200k', 'varve', boot]);
  assert.equal(mounted.status, 0);
  makeBuild(out, { size: 400_000 });
  makeBuild(`${out}2`, { size: 900_000, seed: 2 });
  await install(out, boot);
  const before = filesBelow(boot);
  await assert.rejects(install(`${out}2`, boot), {
    kind: 'layer',
    message:
      /1\.\d MiB are needed beside what is installed, 0\.\d MiB are free: remove what is not needed/,
  });
  assert.deepEqual(filesBelow(boot), before);
  const disk = { ...REAL_DISK, free: () => Number.POSITIVE_INFINITY };
  await assert.rejects(install(`${out}2`, boot, { disk }), {
    kind: 'layer',
    message: /no space left: what is installed stays as it is/,
  });
  assert.deepEqual(filesBelow(boot), before);
  assertBoots(boot, `initramfs-varve-${RELEASE}.img`, bootPlace(boot).prefix, none);
});

test('every file is on disk before it has its name, its folder afterwards; nothing that vfat cannot do', {
  skip: requires({ packages: ['strace'] }),
}, (t) => {
  const { out, boot } = places(t);
  writeFileSync(join(boot, NAME), noise(1000, 1));
  makeBuild(out);
  const log = join(out, 'strace');
  const traced = spawnSync('strace', [
    '-f',
    '-y',
    '-qq',
    '-o',
    log,
    '-e',
    'trace=fsync,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat',
    process.execPath,
    once,
    out,
    boot,
    NAME,
  ]);
  assert.equal(traced.status, 0);
  const calls = readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line.includes(boot));
  assert.deepEqual(
    calls.filter((line) => /link(?:at)?\(/.test(line) && !line.includes('unlink')),
    [],
  );
  const renames = calls.flatMap((line, i) => {
    const [, from, to] = /rename\w*\(.*?"(.*?)".*?"(.*?)"/.exec(line) ?? [];
    return from === undefined || to === undefined ? [] : [{ from, to, i }];
  });
  // Two records, the image, the complete initramfs, ours.
  assert.equal(renames.length, 5);
  for (const { from, to, i } of renames) {
    const synced = calls
      .slice(0, i)
      .some((line) => line.includes('fsync(') && line.includes(`<${from}>`));
    assert.ok(synced, `${from} is synced`);
    const folder = to.slice(0, to.lastIndexOf('/'));
    assert.match(calls[i + 1] ?? '', new RegExp(`fsync\\(\\d+<${folder}>\\)`));
  }
  const order = renames.map(({ to }) => to.slice(boot.length + 1).replace(/-[0-9a-f]{16}/, ''));
  const record = `varve/${RELEASE}.installed.json`;
  assert.deepEqual(order, [
    record,
    'varve/initoverlayfs.img',
    `varve/full-${RELEASE}.img`,
    NAME,
    record,
  ]);
});

function restore(from: string, to: string): void {
  rmSync(to, { recursive: true });
  cpSync(from, to, { recursive: true });
}

/** Nothing but what the records name, and nothing twice. */
function assertTidy(boot: string, step: number): void {
  const there = filesBelow(boot);
  const names = there
    .filter((name) => name.endsWith('.installed.json'))
    .flatMap((name) => {
      const { now, next } = JSON.parse(readFileSync(join(boot, name), 'utf8'));
      assert.equal(next, undefined, `step ${step}`);
      return [name, now.initramfs, now.full, ...now.images].map((file) => file?.path ?? file);
    });
  const expected = new Set([NAME, ...names]);
  assert.deepEqual(there, [...expected].sort(), `step ${step}`);
}
