// A virtual machine that boots a kernel into this program: a disk with node, its libraries and dist/, and an initramfs.
// Called by oldkernel.test.ts; the machine itself is vm/qemu.ts.
// Follows: Documentation/driver-api/early-userspace/buffer-format.rst (written by busybox cpio).

import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { busybox, installBusybox, libraries, run } from '../vm/guest-files.js';
import type { Kernel } from '../vm/kernel.js';
import { runMachine } from '../vm/qemu.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const modulesFolder = join(repository, 'node_modules');

/** Where the repository's files lie in the machine. */
const home = '/varve';

/** Kernel modules that show the machine its disk, and those of the mounts. */
export const modules = ['virtio_pci', 'virtio_blk', 'ext4', 'fuse', 'overlay'];

export interface Boot {
  kernel: Kernel;
  /** Compiled program that node runs in the machine as root, below the repository. */
  program: string;
  /** Folder to build in. */
  folder: string;
  /** Milliseconds until the machine is ended. */
  limit: number;
  /** Receives what the machine prints, line by line. */
  onLine: (line: string) => unknown;
}

/** Boots, runs the program, powers off. @returns what ended it: undefined in order, else a sentence. */
export async function boot(options: Boot): Promise<string | undefined> {
  const { kernel, folder, limit, onLine } = options;
  return runMachine({
    kernel: kernel.image,
    initramfs: makeInitramfs(folder, kernel),
    memory: 1024,
    processors: 2,
    disks: [makeDisk(folder, options.program)],
    limit,
    onLine,
  });
}

/** An ext4 with everything that node needs; uppers lie on it, too. */
function makeDisk(folder: string, program: string): string {
  const root = join(folder, 'root');
  for (const name of ['bin', 'dev', 'proc', 'sys', 'tmp', 'run', 'etc', 'data']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  installBusybox(join(root, 'bin'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nplain:x:1000:1000::/:/bin/sh\n');
  copyFileSync(process.execPath, join(root, 'bin/node'));

  const target = join(root, home);
  const isCode = (path: string) => !path.endsWith('.d.ts') && !path.endsWith('.tsbuildinfo');
  for (const name of ['dist/bundle', 'dist/src', 'dist/test', 'bin', 'package.json']) {
    cpSync(join(repository, name), join(target, name), { recursive: true, filter: isCode });
  }
  for (const name of packages()) {
    cpSync(join(modulesFolder, name), join(target, 'node_modules', name), { recursive: true });
  }
  const programs = [process.execPath, join(modulesFolder, nativeFile)];
  for (const library of new Set(programs.flatMap(libraries))) {
    mkdirSync(join(root, dirname(library)), { recursive: true });
    copyFileSync(library, join(root, library));
  }
  const start = `#!/bin/sh
export PATH=/bin HOME=/
cd ${home}
node ${relative(repository, program)}
poweroff -f
`;
  writeFileSync(join(root, 'start'), start);
  chmodSync(join(root, 'start'), 0o755);

  const disk = join(folder, 'disk');
  const made = [
    '-q',
    '-F',
    '-O',
    '^has_journal,verity',
    '-E',
    'root_owner=0:0',
    '-d',
    root,
    disk,
    '512M',
  ];
  run('mkfs.ext4', made);
  return disk;
}

/** Loads the modules, then goes on from the disk. */
function makeInitramfs(folder: string, kernel: Kernel): string {
  const root = join(folder, 'initramfs');
  for (const name of ['bin', 'dev', 'proc', 'sys', 'disk']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  installBusybox(join(root, 'bin'));
  for (const path of kernel.modules) copyFileSync(path, join(root, basename(path)));
  const init = `#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in ${kernel.modules.map((path) => basename(path)).join(' ')}; do
  insmod /$module || echo "insmod $module failed"
done
# As udev does.
chmod 666 /dev/fuse
mount -t ext4 /dev/vda /disk
for name in proc sys dev; do mount --move /$name /disk/$name; done
exec switch_root /disk /start
`;
  writeFileSync(join(root, 'init'), init);
  chmodSync(join(root, 'init'), 0o755);
  const archive = join(folder, 'initramfs.cpio');
  run('sh', ['-c', `cd "$0" && find . | ${busybox} cpio -o -H newc > "$1"`, root, archive]);
  return archive;
}

/** The packages that dist/src runs with, as folders. */
function packages(): string[] {
  const text = readFileSync(join(repository, 'package.json'), 'utf8');
  const { dependencies } = JSON.parse(text) as { dependencies: Record<string, string> };
  return [...Object.keys(dependencies), dirname(dirname(nativeFile))];
}

/** koffi's binary for this machine, below node_modules. */
const nativeFile = `@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`;
