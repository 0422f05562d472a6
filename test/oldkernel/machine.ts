// A virtual machine that boots a kernel into this program: a disk with node, its libraries and dist/, and an initramfs.
// Called by oldkernel.test.ts; boots without KVM, so an instruction costs about ten times what it costs outside.
// Follows: qemu-system-x86_64(1); Documentation/driver-api/early-userspace/buffer-format.rst (written by busybox cpio).

import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Kernel } from './kernel.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const modulesFolder = join(repository, 'node_modules');
const busybox = '/bin/busybox';

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
  onLine: (line: string) => void;
}

/** Boots, runs the program, powers off. @returns what ended it: undefined in order, else a sentence. */
export async function boot(options: Boot): Promise<string | undefined> {
  const { kernel, folder, limit } = options;
  const disk = makeDisk(folder, options.program);
  const initramfs = makeInitramfs(folder, kernel);
  const machine = ['-accel', 'tcg,thread=multi', '-smp', '2', '-m', '1024', '-nodefaults'];
  // An older processor: the newer instructions that programs would choose are slow to imitate.
  machine.push('-cpu', 'Nehalem', '-nic', 'none', '-display', 'none', '-no-reboot');
  const drive = `file=${disk},if=none,id=disk,format=raw,cache=unsafe`;
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...machine,
      ...['-kernel', kernel.image, '-initrd', initramfs, '-serial', 'stdio'],
      ...['-drive', drive, '-device', 'virtio-blk-pci,drive=disk'],
      ...['-append', 'console=ttyS0 quiet panic=-1 nokaslr mitigations=off'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split(/\r*\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) options.onLine(line);
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, limit);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  clearTimeout(timer);
  if (late) return `not done after ${limit / 1000} s`;
  return code === 0 ? undefined : `qemu ended with ${code}: ${complaint.trim()}`;
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

function installBusybox(folder: string): void {
  copyFileSync(busybox, join(folder, 'busybox'));
  for (const applet of run(busybox, ['--list']).trim().split('\n')) {
    if (applet !== 'busybox') symlinkSync('busybox', join(folder, applet));
  }
}

/** The packages that dist/src runs with, as folders. */
function packages(): string[] {
  const text = readFileSync(join(repository, 'package.json'), 'utf8');
  const { dependencies } = JSON.parse(text) as { dependencies: Record<string, string> };
  return [...Object.keys(dependencies), dirname(dirname(nativeFile))];
}

/** koffi's binary for this machine, below node_modules. */
const nativeFile = `@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`;

/** Shared libraries of a program, the loader included. */
function libraries(program: string): string[] {
  const listed = run('ldd', [program]);
  return [...listed.matchAll(/(?:=>\s*|^\s+)(\/\S+)/gm)].map(([, path]) => path);
}

function run(command: string, args: readonly string[]): string {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: 60_000 });
  if (result.status === 0) return result.stdout;
  throw new Error(`${command} ${args.join(' ')}: ${result.error?.message ?? result.stderr}`);
}
