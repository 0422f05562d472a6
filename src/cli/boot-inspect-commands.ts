// `varve boot inspect` and `varve boot diff` as data: flags, descriptions and examples.
// Part of the table in commands.ts.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const BOOT_INSPECT_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'boot inspect',
    summary: 'tell what is in which part of a boot image',
    operands: '[OUTDIR | FILE]',
    count: [0, 1],
    description: [
      'Tells what is in which part: of an OUTDIR of `varve boot build` (default: this directory), of an installed or other mini-initramfs, of a complete initramfs, of a unified kernel image, or of an image alone. Parts are the archives for the early kernel, the mini-initramfs (modules, programs, configuration), and the images (objects, bytes, compression, hash tree), with their largest files and folders. Images are looked for where the mini-initramfs names them: beside it, and in the folders above.',
      '--reads tells for each image which parts of its file are in memory, and which of its files lie there: what was read of it, and what the kernel read ahead, as long as its filesystem stays mounted.',
      '--running tells how this machine was booted: the lines of storage-init in the log of the kernel, with times and how much it read of each image, and whether anything of them remains. With `varve.trace` on the command line of the kernel, and the dracut module that `varve setup --boot` links, also which files of the initramfs were read before it was left.',
    ],
    flags: [
      { name: 'reads', help: 'What of the images is in memory, by file.' },
      { name: 'running', help: 'How this machine was booted.' },
      { name: 'all', short: 'a', help: 'Lists of files are complete, not the first 20.' },
      { name: 'json', help: 'Print JSON for programs instead of text.' },
    ],
    examples: [
      ['varve boot inspect out', 'a build'],
      ['varve boot inspect /boot/initrd.img-6.1.0-9', 'what the loader starts'],
      ['varve boot inspect --running', 'after a boot'],
    ],
    completes: 'path',
  },
  {
    name: 'boot diff',
    summary: 'tell what differs between two boot images',
    operands: 'OLD NEW [-- PATH...]',
    count: [2, Number.POSITIVE_INFINITY],
    description: [
      'Tells which files differ, in the payload (the union of the images, below `payload`) and in the mini-initramfs (below `mini`), and what differs in configuration, modules and sizes. OLD and NEW are what `varve boot inspect` takes; a complete initramfs counts as a payload, so that a build can be compared with what it was made of. With PATHs only what lies at or below one of them is told.',
      'The forms are those of `varve diff`.',
    ],
    flags: [
      { name: 'payload', help: 'The payload alone, not the mini-initramfs.' },
      { name: 'stat', help: 'Bytes that came and went, one line a path, and totals.' },
      { name: 'name-status', help: "git's letters A M D T, a tab and the path." },
      {
        name: 'null',
        short: 'z',
        help: 'With --name-status: NUL in place of tab and newline, nothing quoted.',
      },
      {
        name: 'json',
        help: 'Everything, as the document that docs/diff.md describes, and `boot`.',
      },
      { name: 'patch', short: 'p', help: 'Text files as a patch.' },
      { name: 'binary', help: "With --patch: other files as well, as git's binary patch." },
      {
        name: 'html',
        value: 'FILE',
        help: 'One page with everything in it; - is standard output.',
      },
      { name: 'all', short: 'a', help: 'Changes of the time alone, too.' },
      { name: 'exit-code', help: 'Exit code 1 when there are changes.' },
      {
        name: 'quiet',
        short: 'q',
        help: 'Print nothing; implies --exit-code where nothing is written.',
      },
      {
        name: 'color',
        value: 'auto|always|never',
        help: 'Colours (default auto: on a terminal, unless NO_COLOR is set).',
      },
    ],
    examples: [
      ['varve boot diff out.old out', 'two builds'],
      [
        'varve boot diff --stat /boot/initrd.img-6.1.0-8 /boot/initrd.img-6.1.0-9',
        'two installed ones',
      ],
      ['varve boot diff --payload initrd.img out', 'a build and what it was made of'],
    ],
    completes: 'path',
  },
];
