// Debian's current kernel as files for a virtual machine: the boot image and the modules that a test needs.
// Used by oldkernel/ and boot/. The package comes by apt-get once and is kept, by its version, in the user's cache folder.
// Follows: `depends=` in the section .modinfo of a module; modules.builtin of the kernel's own build.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { bootableKernel } from '../../src/boot/bench/kernel.js';

export interface Kernel {
  /** As uname -r says. */
  release: string;
  /** The compressed boot image; this flavour uses lz4. */
  image: string;
  /** The same, unpacked: QEMU can enter it directly, which saves a second of each boot. */
  vmlinux: string;
  /** The folder that has `lib/modules`, with modules.dep and its like. */
  root: string;
  /** Module files, each behind those that it needs. */
  modules: string[];
}

/** The flavour for virtual machines: the same source in a third of the size, with ext4 built in. */
const metaPackage = 'linux-image-cloud-amd64';

/** The parts of the package that are kept: boot image, and where modules for a disk and a filesystem lie. */
const parts = ['./boot', '*/modules.builtin', '*/modules.builtin.modinfo', '*/modules.order'];
parts.push(...['fs', 'crypto', 'lib', 'arch'].map((name) => `*/kernel/${name}`));
parts.push(...['virtio', 'block', 'md', 'scsi'].map((name) => `*/kernel/drivers/${name}`));

/** Goes up with what is kept of the package. */
const edition = 2;

/** No package: the machine is offline, or its apt has no lists. The reason for a skip. */
export class NoKernelError extends Error {}

/**
 * @param wanted modules by name; those that the kernel has built in are passed over.
 * @throws NoKernelError when apt does not give the package.
 */
export function debianKernel(wanted: readonly string[]): Kernel {
  const folder = unpacked();
  const root = rootOf(folder);
  const modules = join(root, 'lib/modules');
  const release = readdirSync(modules)[0];
  return {
    release,
    image: join(folder, 'boot', `vmlinuz-${release}`),
    vmlinux: join(folder, 'vmlinux'),
    root,
    modules: inOrder(join(modules, release), wanted),
  };
}

/** Where `lib/modules` is: Debian 13 moved it below /usr. */
function rootOf(folder: string): string {
  const all = [folder, join(folder, 'usr')];
  return all.find((path) => existsSync(join(path, 'lib/modules'))) as string;
}

/** The folder with the package's content, fetched if it is not there yet. */
function unpacked(): string {
  const caches = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  const cache = join(caches, 'varve-test');
  const depends = output('apt-cache', ['depends', '--important', metaPackage]);
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined)
    throw new NoKernelError(`apt knows no ${metaPackage}: run apt-get update`);
  const version = /^Version: (\S+)/m.exec(output('apt-cache', ['show', '--no-all-versions', name]));
  const folder = join(cache, `${name}_${version?.[1]}_${edition}`);
  if (existsSync(folder)) return folder;

  mkdirSync(cache, { recursive: true });
  const temporary = mkdtempSync(join(cache, 'new-'));
  try {
    // As root, apt gives downloads to a user of its own, who may not write here.
    const settings = ['-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=3'];
    output('apt-get', ['download', '-qq', ...settings, name], temporary);
    const deb = readdirSync(temporary).find((file) => file.endsWith('.deb'));
    const unpack = 'dpkg-deb --fsys-tarfile "$0" | tar -x --wildcards "$@" && rm "$0"';
    const inflate = 'find . -name "*.ko.xz" -exec xz -d {} +';
    output('sh', ['-c', `${unpack} && ${inflate}`, `./${deb}`, ...parts], temporary);
    const root = rootOf(temporary);
    const release = readdirSync(join(root, 'lib/modules'))[0];
    output('/usr/sbin/depmod', ['-b', root, release]);
    const vmlinux = bootableKernel(join(temporary, 'boot', `vmlinuz-${release}`), temporary);
    if (basename(vmlinux) !== 'vmlinux')
      throw new Error(`${vmlinux}: not in a form that QEMU enters`);
    try {
      renameSync(temporary, folder);
    } catch (error) {
      // Another run was faster.
      if (!existsSync(folder)) throw error;
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return folder;
}

function output(command: string, args: readonly string[], cwd?: string): string {
  const run = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    timeout: 90_000,
    ...(cwd === undefined ? {} : { cwd }),
  });
  if (run.status === 0) return run.stdout;
  const reason = run.error?.message ?? run.stderr.trim();
  throw new NoKernelError(`${command} ${args[0]} ${args.at(-1)}: ${reason}`);
}

function inOrder(folder: string, wanted: readonly string[]): string[] {
  const paths = new Map<string, string>();
  for (const path of readdirSync(join(folder, 'kernel'), { recursive: true, encoding: 'utf8' })) {
    if (path.endsWith('.ko')) paths.set(moduleName(path), join(folder, 'kernel', path));
  }
  const builtin = new Set(
    readFileSync(join(folder, 'modules.builtin'), 'utf8').trim().split('\n').map(moduleName),
  );
  const ordered = new Set<string>();
  const add = (name: string): void => {
    const path = paths.get(name);
    if (path === undefined && builtin.has(name)) return;
    if (path === undefined) throw new Error(`this kernel has no module ${name}`);
    for (const needed of dependencies(path)) add(needed);
    ordered.add(path);
  };
  for (const name of wanted) add(name);
  return [...ordered];
}

/** File names have `-` where the kernel says `_`, or not. */
function moduleName(path: string): string {
  return basename(path, '.ko').replaceAll('-', '_');
}

function dependencies(path: string): string[] {
  const list = /\0depends=([^\0]*)\0/.exec(readFileSync(path, 'latin1'))?.[1] ?? '';
  return list === '' ? [] : list.split(',').map(moduleName);
}
