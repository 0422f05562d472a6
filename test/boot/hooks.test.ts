// What a kernel update runs: the plugin under the real kernel-install, the hooks as update-initramfs and dpkg call them, and the
// links by which `varve setup --boot` puts them in their places. Each ends with a boot folder whose initramfs is checked as a machine would.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bootPlace } from '../../src/boot/install/places.js';
import { readContent } from '../../src/tree/read-content.js';
import { openTreeSource } from '../../src/tree/source.js';
import { find } from '../../src/tree/tree.js';
import { requires } from '../support/requires.js';
import { type Cleanup, tempDir } from '../support/temp.js';
import { assertBoots, configIn, filesBelow, makeInitramfs, RELEASE } from './made-build.js';

const share = fileURLToPath(new URL('../../../share/boot', import.meta.url));
const varve = fileURLToPath(new URL('../../../bin/varve.js', import.meta.url));
const none = new Uint8Array(0);

function system(t: Cleanup, settings = '') {
  const folder = tempDir(t);
  const boot = join(folder, 'boot');
  const conf = join(folder, 'boot.conf');
  mkdirSync(boot);
  writeFileSync(conf, `bootfs LABEL=boot\nverify digest\nbootfstype ext4\n${settings}`);
  writeFileSync(join(folder, 'vmlinuz'), 'kernel');
  const env = { ...process.env, TMPDIR: folder, VARVE_BOOT_CONF: conf };
  return { folder, boot, env, prefix: bootPlace(boot).prefix };
}

const packages = ['systemd', 'busybox-static', 'util-linux'];

test('kernel-install: the entry of a kernel starts a mini-initramfs; with the kernel all of it goes', {
  skip: requires({ packages }),
}, (t) => {
  const { folder, boot, env, prefix } = system(t);
  const token = 'some-token';
  mkdirSync(join(boot, token));
  mkdirSync(join(folder, 'conf'));
  writeFileSync(join(folder, 'conf/cmdline'), 'root=LABEL=root\n');
  writeFileSync(join(folder, 'conf/entry-token'), `${token}\n`);
  makeInitramfs(join(folder, 'initrd'), RELEASE);
  const plugins = [
    '/usr/lib/kernel/install.d/90-loaderentry.install',
    join(share, 'kernel-install/95-varve-boot.install'),
  ];
  const kernelInstall = (...args: string[]) => {
    const { status, stderr } = spawnSync('kernel-install', args, {
      encoding: 'utf8',
      env: {
        ...env,
        BOOT_ROOT: boot,
        MACHINE_ID: '0123456789abcdef0123456789abcdef',
        KERNEL_INSTALL_CONF_ROOT: join(folder, 'conf'),
        KERNEL_INSTALL_PLUGINS: plugins.join(' '),
      },
    });
    assert.equal(status, 0, stderr);
    return stderr;
  };
  const add = () => kernelInstall('add', RELEASE, join(folder, 'vmlinuz'), join(folder, 'initrd'));
  assert.equal(add(), '');
  const name = `${token}/${RELEASE}/initrd`;
  assert.equal(assertBoots(boot, name, prefix, none).length, 1);
  const entry = readFileSync(join(boot, `loader/entries/${token}-${RELEASE}.conf`), 'utf8');
  assert.match(entry, new RegExp(`^initrd +/.*/${RELEASE}/initrd$`, 'm'));
  const config = configIn(join(boot, name));
  assert.equal(config.onFailure, 'fallback');
  const complete = readFileSync(join(boot, config.fallback?.path.slice(prefix.length) ?? ''));
  assert.ok(
    complete.equals(readFileSync(join(folder, 'initrd'))),
    'the complete one is the fallback',
  );

  // The same kernel once more, with another initramfs: its image takes the place of the first.
  makeInitramfs(join(folder, 'initrd'), RELEASE, 2);
  assert.equal(add(), '');
  assertBoots(boot, name, prefix, none);
  assert.equal(
    filesBelow(join(boot, 'varve')).length,
    3,
    'one image, one complete initramfs, one record',
  );
  kernelInstall('remove', RELEASE);
  assert.deepEqual(filesBelow(boot), []);

  // What cannot be built leaves the complete initramfs, and says so.
  writeFileSync(join(folder, 'initrd'), 'nothing that could be read');
  assert.match(add(), /boots with its complete initramfs/);
  assert.equal(readFileSync(join(boot, name), 'utf8'), 'nothing that could be read');
});

test('update-initramfs: the initramfs is replaced where it lies, by its own hook and again after the next update', {
  skip: requires({ packages }),
}, (t) => {
  const { folder, boot, env, prefix } = system(t);
  const hooks = join(folder, 'root/etc/initramfs/post-update.d');
  const setup = (...args: string[]) =>
    spawnSync(
      process.execPath,
      [varve, 'setup', '--boot', '--prefix', join(folder, 'root'), ...args],
      {
        encoding: 'utf8',
        env,
      },
    );
  assert.equal(setup().status, 0);
  assert.equal(readlinkSync(join(hooks, 'varve-boot')), join(share, 'initramfs-tools/post-update'));
  const initrd = join(boot, `initrd.img-${RELEASE}`);
  // As update-initramfs does it once the file has its name.
  const update = (seed: number) => {
    makeInitramfs(initrd, RELEASE, seed);
    const run = spawnSync('run-parts', [`--arg=${RELEASE}`, `--arg=${initrd}`, hooks], {
      encoding: 'utf8',
      env,
    });
    assert.deepEqual([run.status, run.stderr], [0, '']);
  };
  update(1);
  const [first] = assertBoots(boot, `initrd.img-${RELEASE}`, prefix, none);
  assert.ok(first);
  update(2);
  const [second] = assertBoots(boot, `initrd.img-${RELEASE}`, prefix, none);
  assert.notEqual(second, first);
  assert.equal(filesBelow(boot).length, 4);
  // Called for what is ours already it builds from the complete one that was kept.
  const again = spawnSync('run-parts', [`--arg=${RELEASE}`, `--arg=${initrd}`, hooks], { env });
  assert.equal(again.status, 0);
  assert.deepEqual(assertBoots(boot, `initrd.img-${RELEASE}`, prefix, none), [second]);

  const removed = spawnSync(
    'run-parts',
    [
      `--arg=${RELEASE}`,
      `--arg=${join(boot, `vmlinuz-${RELEASE}`)}`,
      join(folder, 'root/etc/kernel/postrm.d'),
    ],
    { encoding: 'utf8', env },
  );
  assert.deepEqual([removed.status, removed.stderr], [0, '']);
  assert.deepEqual(filesBelow(boot), [`initrd.img-${RELEASE}`]);
  assert.equal(setup('--uninstall').status, 0);
  assert.equal(existsSync(join(hooks, 'varve-boot')), false);
});

test('`update no` in the settings leaves new kernels alone', {
  skip: requires({ packages }),
}, (t) => {
  const { boot, env } = system(t, 'update no\n');
  const initrd = join(boot, `initrd.img-${RELEASE}`);
  makeInitramfs(initrd, RELEASE);
  const before = readFileSync(initrd);
  const hook = spawnSync(join(share, 'initramfs-tools/post-update'), [RELEASE, initrd], { env });
  assert.equal(hook.status, 0);
  assert.deepEqual(filesBelow(boot), [`initrd.img-${RELEASE}`]);
  assert.ok(readFileSync(initrd).equals(before));
});

test('varve boot build goes by the settings where no flag says it', {
  skip: requires({ packages }),
}, (t) => {
  const { folder, env } = system(t, 'storage virtio\ntimeout 7\non-failure reboot\n');
  makeInitramfs(join(folder, 'in.img'), RELEASE);
  const build = (...flags: string[]) => {
    const out = join(folder, 'out');
    const args = [
      'boot',
      'build',
      '--initramfs',
      join(folder, 'in.img'),
      '-q',
      '-o',
      out,
      ...flags,
    ];
    const run = spawnSync(process.execPath, [varve, ...args], { encoding: 'utf8', env });
    assert.equal(run.status, 0, run.stderr);
    const { bootfs, timeout, onFailure } = configIn(join(out, 'initramfs.img'));
    return [bootfs, timeout, onFailure];
  };
  assert.deepEqual(build(), ['LABEL=boot', 7, 'reboot']);
  assert.deepEqual(build('--timeout', '9', '--bootfs', 'LABEL=x'), ['LABEL=x', 9, 'reboot']);
  assert.deepEqual(build('--no-settings', '--bootfs', 'LABEL=x', '--verify', 'none'), [
    'LABEL=x',
    30,
    'shell',
  ]);
});

test('dracut: an initramfs with our module records what is read before it is left', {
  skip: requires({ packages: ['dracut-core'] }),
}, (t) => {
  const folder = tempDir(t);
  // A folder of dracut's own modules and ours, as `varve setup --boot` makes it.
  const modules = join(folder, 'dracut/modules.d');
  mkdirSync(join(modules, '90varve-boot'), { recursive: true });
  const dracut = '/usr/lib/dracut';
  for (const name of readdirSync(dracut).filter((one) => one !== 'modules.d')) {
    symlinkSync(join(dracut, name), join(folder, 'dracut', name));
  }
  for (const name of readdirSync(join(dracut, 'modules.d')).filter(
    (one) => one !== '90varve-boot',
  )) {
    symlinkSync(join(dracut, 'modules.d', name), join(modules, name));
  }
  symlinkSync(
    join(share, 'dracut/90varve-boot/module-setup.sh'),
    join(modules, '90varve-boot/module-setup.sh'),
  );
  const image = join(folder, 'initramfs.img');
  const args = [
    '--no-hostonly',
    '--no-kernel',
    '--no-early-microcode',
    '--nostrip',
    '--nohardlink',
  ];
  const made = spawnSync(
    'dracut',
    [...args, '--no-compress', '-m', 'base varve-boot', image, RELEASE],
    {
      encoding: 'utf8',
      env: { ...process.env, TMPDIR: folder, dracutbasedir: join(folder, 'dracut') },
    },
  );
  assert.equal(made.status, 0, made.stderr);
  const source = openTreeSource(image);
  try {
    const hook = find(source.root, 'usr/lib/dracut/hooks/pre-pivot/99-record-reads');
    assert.ok(hook, made.stderr);
    assert.ok(readContent(hook).equals(readFileSync(join(share, 'record-reads'))));
    for (const name of ['find', 'fincore', 'mkdir', 'cat']) {
      assert.ok(find(source.root, `usr/bin/${name}`), name);
    }
  } finally {
    source.close();
  }
});
