// `varve boot install` and `varve boot remove` as data: flags, descriptions and examples.
// Part of the table in commands.ts.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const QUIET: FlagRecord = { name: 'quiet', short: 'q', help: 'Print nothing but failures.' };
const PLACE_FLAGS: readonly FlagRecord[] = [
  {
    name: 'boot',
    value: 'DIR',
    help: 'The folder of the boot filesystem (default: `boot` of /etc/varve/boot.conf, else /boot).',
  },
  { name: 'kver', value: 'V', help: 'The release of the kernel (default: that of the build).' },
  {
    name: 'root',
    value: 'DIR',
    help: 'The root directory of the system that is to boot (default /): its settings, its boot folder, its command line.',
  },
];

export const BOOT_INSTALL_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'boot install',
    summary: 'put a boot image into the boot filesystem',
    operands: '[OUTDIR]',
    count: [0, 1],
    description: [
      'Puts what `varve boot build` made in OUTDIR (default: this directory) into the boot filesystem: the images into its folder varve, under names made of their digest, and the mini-initramfs as initramfs-varve-V.img, or under the name that the loader knows (--as). With --initramfs it builds first, from a complete initramfs and by the settings in /etc/varve/boot.conf; that is what runs when a kernel is installed (`varve setup --boot`).',
      'Where there are entries of the Boot Loader Specification in loader/entries, one more is written, after the model of the one for the same kernel. Otherwise it says what to do.',
      'What it needs is computed before anything is written. Files are written beside, synced and renamed: the images first, then the initramfs that names them. Killed at any point, or without power or space, the boot stays as it was or is as it is to be, and the next install or remove cleans up. An initramfs that has the name and is not varve’s is kept: the boot falls back to it, where it was built so, and `varve boot remove` puts it back.',
      'One call for each kernel: a second one takes the place of the first, and what nobody names any longer goes.',
    ],
    flags: [
      ...PLACE_FLAGS,
      {
        name: 'as',
        value: 'NAME',
        help: 'Name of the mini-initramfs in the boot folder; %v stands for the kernel. What has the name is replaced.',
      },
      {
        name: 'initramfs',
        value: 'IN',
        help: 'Build from this complete initramfs first, in a temporary folder. It may be the file that --as names.',
      },
      {
        name: 'update',
        help: 'With --initramfs: do nothing where the settings say `update no`. For what runs with a new kernel.',
      },
      {
        name: 'bootfs',
        value: 'WHERE',
        help: 'Where the mini-initramfs finds the boot filesystem, if not as built: UUID=, LABEL=, PARTLABEL=, PARTUUID=, a device, or auto: the UUID of the one that is installed into.',
      },
      { name: 'bootfstype', value: 'TYPE', help: 'Its type, if not as built.' },
      {
        name: 'no-keep',
        help: 'Do not keep the initramfs that has the name: saves its space; nothing to fall back to.',
      },
      {
        name: 'keep-old',
        help: 'Keep the images of the build before until the next install: for a unified kernel image that names them, until there is a new one.',
      },
      {
        name: 'force',
        short: 'f',
        help: 'Even where the mini-initramfs will look for its image on another device than the one that is installed into.',
      },
      QUIET,
      JSON_FLAG,
    ],
    examples: [
      ['varve boot install out', 'beside what is there, with an entry in the menu'],
      ['varve boot install out --as initrd.img-%v', 'in the place of Debian’s own'],
      [
        'varve boot install --initramfs /boot/initrd.img-6.1.0-9 --kver 6.1.0-9 --as initrd.img-%v',
        'build and install, by /etc/varve/boot.conf',
      ],
    ],
    completes: 'directory',
  },
  {
    name: 'boot remove',
    summary: 'take a boot image out of the boot filesystem',
    operands: '',
    count: [0, 0],
    description: [
      'Removes exactly what `varve boot install` put there for a kernel: the entry of the loader first, then the mini-initramfs, or puts the initramfs back that had its name, then the images that no other kernel uses. Files that were changed since stay and are named; --force removes them too.',
      'That of the running kernel is refused without --force. Where a single kernel has boot images --kver may be left out.',
    ],
    flags: [
      ...PLACE_FLAGS,
      {
        name: 'force',
        short: 'f',
        help: 'That of the running kernel, and files that were changed.',
      },
      QUIET,
      JSON_FLAG,
    ],
    examples: [['varve boot remove --kver 6.1.0-9', 'when the kernel goes']],
    completes: 'nothing',
  },
];
