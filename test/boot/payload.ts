// A payload of busybox, and the system that it goes on to: both say on the console what is mounted and what memory there is.
// Used by the boot tests. The payload behaves like an ordinary initramfs: mounts /proc and its like, loads drivers, finds the root, switches.

import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { installBusybox } from '../vm/guest-files.js';
import { ext4, kernel } from './machine.js';

/** Lines `NAME: key=value`. */
const report = `
report() {
  # Errors alone: other lines of the kernel would stand in between.
  dmesg -n 4
  sync
  echo 3 >/proc/sys/vm/drop_caches
  while read -r _ _ _ _ target _; do echo "$1: mount=$target"; done </proc/self/mountinfo
  while read -r filesystem; do case $filesystem in *'- erofs '* | *'- btrfs '* | *'- overlay '*) echo "$1: image=$filesystem" ;; esac; done </proc/self/mountinfo
  for file in /sys/block/loop*/loop/backing_file; do [ -f "$file" ] && echo "$1: loop=$(cat "$file")"; done
  for file in /sys/block/dm-* /dev/mapper/varve*; do [ -e "$file" ] && echo "$1: dm=$file"; done
  while read -r name value _; do [ "$name" = MemAvailable: ] && echo "$1: available=$value"; done </proc/meminfo
}
`;

const mounts = `
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
`;

export interface PayloadOptions {
  /** Commands before it looks for the root. */
  readonly commands?: string;
  /** MiB of changes in its own root, which must be free again later. */
  readonly ballast?: number;
}

/** The tree of a payload. */
export function makePayload(root: string, options: PayloadOptions = {}): string {
  for (const name of ['bin', 'dev', 'proc', 'sys', 'root', 'modules']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  installBusybox(join(root, 'bin'));
  symlinkSync('bin', join(root, 'sbin'));
  const { modules } = kernel();
  for (const path of modules) copyFileSync(path, join(root, 'modules', basename(path)));
  script(
    join(root, 'init'),
    `${mounts}
for name in ${modules.map((path) => basename(path)).join(' ')}; do insmod "/modules/$name" 2>/dev/null; done
${report}
report payload
echo "payload: arguments=$*"
${options.commands ?? ''}
dd if=/dev/zero of=/ballast bs=1M count=${options.ballast ?? 0} 2>/dev/null
disk=$(findfs LABEL=varve-root) || poweroff -f
mount -o ro "$disk" /root
for name in proc sys dev; do mount --move "/$name" "/root/$name"; done
exec /sbin/switch_root /root /init
`,
  );
  return root;
}

/** A disk with the system that the payload goes on to. */
export function makeRootDisk(path: string): string {
  const tree = `${path}.tree`;
  for (const name of ['bin', 'dev', 'proc', 'sys'])
    mkdirSync(join(tree, name), { recursive: true });
  installBusybox(join(tree, 'bin'));
  script(join(tree, 'init'), `export PATH=/bin\n${report}\nreport root\npoweroff -f\n`);
  return ext4(path, tree, 'varve-root');
}

export function script(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}`);
  chmodSync(path, 0o755);
}

/** Values that a console has of `NAME: key=value`, in their order. */
export function values(console: string, name: string, key: string): string[] {
  const found = console.matchAll(new RegExp(`^${name}: ${key}=(.*)$`, 'gm'));
  return [...found].map(([, value]) => value as string);
}
