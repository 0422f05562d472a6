// The loader's menu: an entry of the Boot Loader Specification (type 1) that starts a kernel with our mini-initramfs.
// Used by install.ts where the boot filesystem has such entries. What another entry says about the same kernel is taken over.
// Follows: UAPI.1 Boot Loader Specification; kernel-install(8) for the files of the command line.

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { namesIn } from './publish.js';
import { ENTRIES } from './settle.js';

export interface EntryRequest {
  readonly folder: string;
  /** From the root of the boot filesystem to the folder. */
  readonly prefix: string;
  readonly root: string;
  readonly release: string;
  /** Of the mini-initramfs, below the folder. */
  readonly initramfs: string;
}

/** Below the folder of the boot filesystem. */
export const entryPath = (release: string): string => join(ENTRIES, `varve-${release}.conf`);

export function hasEntries(folder: string): boolean {
  return statSync(join(folder, ENTRIES), { throwIfNoEntry: false })?.isDirectory() === true;
}

/** @returns the text; undefined: there is no kernel of this release to be found, so there is nothing to start. */
export function entryText(request: EntryRequest): string | undefined {
  const ours = `initrd     ${request.prefix}/${request.initramfs}`;
  const model = modelOf(request);
  if (model !== undefined) return [...model, ours, ''].join('\n');
  const kernel = kernelOf(request);
  if (kernel === undefined) return undefined;
  const options = commandLine(request.root);
  return [
    `title      ${titleOf(request.root)} (varve)`,
    `version    ${request.release}`,
    ...(options === '' ? [] : [`options    ${options}`]),
    `linux      ${request.prefix}/${kernel}`,
    ours,
    '',
  ].join('\n');
}

/** The lines of an entry for the same kernel, its initramfs left out; processor microcode, which is one of its own, stays. */
function modelOf({ folder, release }: EntryRequest): string[] | undefined {
  for (const name of namesIn(join(folder, ENTRIES))) {
    if (!name.endsWith('.conf') || join(ENTRIES, name) === entryPath(release)) continue;
    const lines = readFileSync(join(folder, ENTRIES, name), 'utf8').split('\n');
    const values = lines.map((line) => /^(\S+)\s+(.*?)\s*$/.exec(line));
    const said = (key: string): string | undefined => values.find((v) => v?.[1] === key)?.[2];
    if (said('version') !== release || said('linux') === undefined) continue;
    return values.flatMap((value) => {
      if (value === null) return [];
      const [, key = '', text = ''] = value;
      if (key === 'initrd' && !text.includes('ucode')) return [];
      return [`${key.padEnd(10)} ${key === 'title' ? `${text} (varve)` : text}`];
    });
  }
  return undefined;
}

function kernelOf({ folder, release }: EntryRequest): string | undefined {
  const names = [`vmlinuz-${release}`, `vmlinux-${release}`, `kernel-${release}`];
  return names.find((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.isFile());
}

/** As kernel-install takes it; of a system that is not this one, only what its files say. */
function commandLine(root: string): string {
  for (const file of ['etc/kernel/cmdline', 'usr/lib/kernel/cmdline']) {
    const text = textOf(join(root, file));
    if (text !== undefined) return text.trim().replace(/\s+/g, ' ');
  }
  if (root !== '/') return '';
  const words = (textOf('/proc/cmdline') ?? '').trim().split(/\s+/);
  return words.filter((word) => !/^(?:BOOT_IMAGE|initrd)=/.test(word)).join(' ');
}

function titleOf(root: string): string {
  const text =
    textOf(join(root, 'etc/os-release')) ?? textOf(join(root, 'usr/lib/os-release')) ?? '';
  return /^PRETTY_NAME="?(.*?)"?$/m.exec(text)?.[1] ?? 'Linux';
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
