// What this machine needs to reach its boot filesystem: which one it is, its type, and the drivers of the devices below it.
// Called for --host. Asked of /proc, /sys and /dev, which are parameters so that a test can have machines of its own.
// Follows: proc_pid_mountinfo(5); sysfs-rules.rst (driver/module, modalias along the path of a device); /dev/disk/by-* of udev.

import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { runTool } from '../run-tool.js';
import type { KernelModules } from './modules.js';

/** Where the kernel and udev tell about a machine. */
export interface Machine {
  readonly proc: string;
  readonly sys: string;
  readonly dev: string;
}

export const THIS_MACHINE: Machine = { proc: '/proc', sys: '/sys', dev: '/dev' };

export interface BootFilesystem {
  /** `UUID=...`, `PARTUUID=...` or a path below /dev. */
  readonly bootfs: string;
  readonly type: string;
  /** Where /boot is in it, without a slash at the end: empty where it is its root. */
  readonly folder: string;
  /** Name of the block device: `vda1`. */
  readonly device: string;
}

/** The filesystem that has /boot. @throws MountError of kind `layer` where a mini-initramfs could not reach it. */
export async function bootFilesystem(machine = THIS_MACHINE): Promise<BootFilesystem> {
  const mounts = readFileSync(join(machine.proc, 'self/mountinfo'), 'utf8').split('\n');
  // The last mount of a path is the one that is seen.
  const lines = ['/boot', '/'].map((path) => mounts.findLast((one) => one.split(' ')[4] === path));
  const line = lines.find((one) => one !== undefined) ?? '';
  const [, , number = '', root = '/', point = '/'] = line.split(' ');
  const [type = '', source = ''] = line.split(' - ')[1]?.split(' ') ?? [];
  const device = deviceName(machine, number, source);
  const remedy = 'name another by --bootfs, and --storage in place of --host';
  if (device === undefined) {
    throw new MountError('layer', `/boot: is on no disk (${type} ${source}): ${remedy}`);
  }
  if (/^(?:dm-|md)/.test(device)) {
    throw new MountError(
      'layer',
      `/boot: is on ${device}, which must be assembled first, and a mini-initramfs does not: ${remedy}`,
    );
  }
  const folder = `${root}/${point === '/boot' ? '' : 'boot'}`
    .replace(/\/+/g, '/')
    .replace(/\/$/, '');
  return { bootfs: await stableName(machine, device), type, folder, device };
}

/** btrfs and overlayfs have numbers of their own: there the source says which device it is. */
function deviceName({ sys, dev }: Machine, number: string, source: string): string | undefined {
  for (const path of [join(sys, 'dev/block', number), source.replace(/^\/dev/, dev)]) {
    const name = basename(resolved(path) ?? '');
    if (entries(join(sys, 'class/block')).includes(name)) return name;
  }
  return undefined;
}

/** A name that the filesystem keeps whatever else there is: its UUID, else the UUID of its partition. */
async function stableName({ dev }: Machine, device: string): Promise<string> {
  for (const [key, folder] of [
    ['UUID', 'by-uuid'],
    ['PARTUUID', 'by-partuuid'],
  ] as const) {
    const place = join(dev, 'disk', folder);
    const name = entries(place).find(
      (one) => basename(resolved(join(place, one)) ?? '') === device,
    );
    if (name !== undefined) return `${key}=${name}`;
  }
  const path = join(dev, device);
  const asked = await runTool('blkid', ['-o', 'value', '-s', 'UUID', path], { expected: [2] });
  const uuid = asked.stdout.toString('utf8').trim();
  return uuid === '' ? path : `UUID=${uuid}`;
}

/**
 * Modules for the device of the boot filesystem, and then for all other disks of the machine.
 * @param device `vda1`; undefined: for all disks alike. @throws MountError when the kernel lacks what the device needs.
 */
export function hostModules(
  modules: KernelModules,
  device: string | undefined,
  machine = THIS_MACHINE,
): string[] {
  const found = new Set<string>();
  if (device !== undefined) {
    for (const name of driversOf(machine, device, modules)) {
      if (!modules.has(name)) {
        const { release, where } = modules.folder;
        throw new MountError(
          'layer',
          `${device}: needs the driver ${name}, which kernel ${release} does not have (${where}): name another kernel by --kver`,
        );
      }
      found.add(name);
    }
  }
  for (const disk of entries(join(machine.sys, 'block'))) {
    if (/^(?:loop|ram|zram|dm-|md|sr|fd|nbd)\d/.test(disk)) continue;
    for (const name of driversOf(machine, disk, modules)) {
      if (modules.has(name)) found.add(name);
    }
  }
  return [...found];
}

/** Modules of the drivers from the bus down to the device, and those that their modaliases ask for. */
function driversOf({ sys }: Machine, device: string, modules: KernelModules): string[] {
  const top = resolved(join(sys, 'devices'));
  const chain: string[][] = [];
  const start = resolved(join(sys, 'class/block', device));
  for (let path = start; path?.startsWith(`${top}/`); path = dirname(path)) {
    const module = resolved(join(path, 'driver/module'));
    const alias = readLine(join(path, 'modalias'));
    const names = module === undefined ? [] : [basename(module)];
    // Of an alias only what is there counts: it may name drivers for other systems, too.
    if (alias !== undefined)
      names.push(...modules.forAlias(alias).filter((one) => modules.has(one)));
    chain.push(names);
  }
  return chain.toReversed().flat();
}

function resolved(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function readLine(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return undefined;
  }
}
