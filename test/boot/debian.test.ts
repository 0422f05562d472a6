// Initramfs as Debian's machines have them, as images: of dracut, through to a Debian root with systemd on another disk, and of
// initramfs-tools. When that root has started, nothing of the image is left: no mount, no loop device, no device of dm-verity.
// The Debian root is made of this machine's packages; two real boots in QEMU.

import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { makeDebianRoot } from '../clients/debian-root.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { run } from '../vm/guest-files.js';
import { boot, bootDisk, build, cannotBoot, ext4, kernel, STORAGE } from './machine.js';
import { makeRootDisk, values } from './payload.js';

const packages = ['busybox-static', 'dmsetup', 'e2fsprogs', 'kmod', 'qemu-system-x86', 'systemd'];
packages.push('dracut-core', 'initramfs-tools-core', 'systemd-sysv', 'udev', 'cpio', 'zstd');
const skip = requires({ root: true, packages, features: ['overlayfs'] }) || cannotBoot();

/** Runs in the root as a service; lines `root: key=value`. */
const report = `#!/bin/sh
exec >/dev/console 2>&1
state=$(systemctl is-system-running --wait)
# Nothing of the kernel's in between.
dmesg -n 1
echo
echo "root: state=$state"
systemctl --failed --plain --no-legend | sed 's/^/root: failed=/'
while read -r _ _ _ _ target _; do echo "root: mount=$target"; done </proc/self/mountinfo
grep -E -- '- (erofs|btrfs|overlay) ' /proc/self/mountinfo | sed 's/^/root: image=/'
for file in /sys/block/loop*/loop/backing_file; do [ -f "$file" ] && echo "root: loop=$(cat "$file")"; done
for file in /sys/block/dm-* /dev/mapper/varve*; do [ -e "$file" ] && echo "root: dm=$file"; done
echo "root: init=$(tr '\\0' ' ' </proc/1/cmdline)"
echo "root: done=$(cut -d' ' -f1 /proc/uptime)"
poweroff -ff
`;

const unit = `[Unit]
Description=Says what there is
[Service]
ExecStart=/usr/sbin/varve-report
`;

suite("Debian's own initramfs", { skip }, () => {
  let folder = '';

  before(() => {
    folder = makeTempDir();
  });
  after(() => removeTempDir(folder));

  /** A disk with Debian, systemd and the report. */
  const makeSystem = (): string => {
    const root = join(folder, 'debian');
    makeDebianRoot(root, ['systemd', 'systemd-sysv', 'udev']);
    // Nobody reads these here, and they are most of it.
    for (const name of ['doc', 'locale', 'man', 'info', 'zoneinfo', 'perl', 'i18n']) {
      rmSync(join(root, 'usr/share', name), { recursive: true, force: true });
    }
    for (const [name, text] of Object.entries({
      'etc/machine-id': '0123456789abcdef0123456789abcdef\n',
      'etc/hostname': 'varve\n',
      'etc/fstab': '',
      'usr/sbin/varve-report': report,
      'usr/lib/systemd/system/varve-report.service': unit,
    })) {
      writeFileSync(join(root, name), text);
    }
    chmodSync(join(root, 'usr/sbin/varve-report'), 0o755);
    const wants = join(root, 'etc/systemd/system/multi-user.target.wants');
    mkdirSync(wants, { recursive: true });
    symlinkSync(
      '/usr/lib/systemd/system/varve-report.service',
      join(wants, 'varve-report.service'),
    );
    mkdirSync(join(root, 'run'), { recursive: true });
    return ext4(join(folder, 'system'), root, 'varve-root');
  };

  /** Boots an image of the initramfs through to the root. @returns what came on the console. */
  async function through(
    initramfs: string,
    verify: 'verity' | 'digest',
    disk: string,
    append: string,
  ): Promise<string> {
    const built = await build(join(folder, verify), { source: { initramfs }, verify });
    const console = await boot({
      initramfs: join(built.folder, 'initramfs.img'),
      disks: [bootDisk(built, join(folder, `${verify}-disk`)), disk],
      memory: 384,
      isScratch: true,
      append: `root=LABEL=varve-root ${append}`,
      limit: 170_000,
    });
    assert.match(console, /varve-boot: \[\S+\] starting the init of the image/);
    assert.ok(values(console, 'root', 'mount').includes('/'), console);
    for (const key of ['image', 'loop', 'dm']) assert.deepEqual(values(console, 'root', key), []);
    assert.ok(
      !values(console, 'root', 'mount').some((path) => /varve|^\/boot/.test(path)),
      console,
    );
    return console;
  }

  test('an initramfs of dracut, with systemd', async () => {
    const { root, release } = kernel();
    const initramfs = join(folder, 'dracut.img');
    const modules =
      'systemd systemd-initrd dracut-systemd base kernel-modules fs-lib rootfs-block udev-rules';
    const args = ['--no-hostonly', '--no-hostonly-cmdline', '--no-early-microcode', '--force'];
    args.push('--kver', release, '-k', join(root, 'lib/modules', release), '--tmpdir', folder);
    run('dracut', [...args, '--no-compress', '-m', modules, initramfs], 150);
    const append =
      'rw systemd.unit=multi-user.target systemd.show_status=no systemd.getty_auto=no audit=0';
    const console = await through(initramfs, 'verity', makeSystem(), append);
    assert.match(console, /hash tree of \/boot\/initoverlayfs.img is used/);
    assert.deepEqual(values(console, 'root', 'failed'), [], console);
    assert.deepEqual(values(console, 'root', 'state'), ['running'], console);
  });

  test('an initramfs of initramfs-tools', async () => {
    const { root, release, image } = kernel();
    const settings = join(folder, 'initramfs-tools');
    run('cp', ['-a', '/etc/initramfs-tools', settings]);
    appendFileSync(join(settings, 'initramfs.conf'), 'MODULES=list\nCOMPRESS=gzip\n');
    appendFileSync(join(settings, 'modules'), `${STORAGE.join('\n')}\n`);
    const initramfs = join(folder, 'initrd.img');
    // It knows no other places for modules and for the kernel's configuration.
    const script = `mount -t overlay -o "lowerdir=$0/lib:/usr/lib" modules /usr/lib && mount --bind "$1" /boot &&
      TMPDIR=$2 mkinitramfs -d "$3" -o "$4" "$5"`;
    const args = [
      '--mount',
      'sh',
      '-c',
      script,
      root,
      dirname(image),
      folder,
      settings,
      initramfs,
      release,
    ];
    run('unshare', args, 150);
    const disk = makeRootDisk(join(folder, 'small'));
    const console = await through(initramfs, 'digest', disk, 'init=/init');
    assert.match(console, /digest of \/boot\/initoverlayfs.img is right/);
  });
});
