// `varve boot bench` as data: its flags, description and examples.
// Part of the table in commands.ts.
// Holds text only; boot-bench.ts runs it.

import type { CommandRecord } from './command-record.js';

export const BOOT_BENCH_COMMAND: CommandRecord = {
  name: 'boot bench',
  summary: 'boot variants of an initramfs in QEMU and compare them',
  operands: '',
  count: [0, 0],
  description: [
    'Makes payloads of the files of this machine (or takes an initramfs), packs each in every variant, and boots them in turn in QEMU, without hardware acceleration. The init of the payload reports and switches the machine off. Of all rounds the smallest figures count.',
    'INIT is the time from the start of the kernel to the init of the payload, by the clock of the guest; WALL the same from the start of QEMU, by the clock of the host. MEMORY is what is in use then; READ what was read from the disk; STORED what lies in /boot.',
    'Variants are archives that the kernel unpacks (none: uncompressed; gzip, zstd, lz4, xz), and what `varve boot build` makes: varve (not checked), varve-digest, varve-verity, varve-embed (no disk), varve-raw (the disk is the image), varve-btrfs. Images lie in an ext4 on a virtio disk, found by its UUID.',
    'The kernel of a vmlinuz is unpacked first where QEMU can enter it directly. With -o the folder gets results.json, and time and memory against the size of the payload as SVG and PNG.',
  ],
  flags: [
    {
      name: 'kernel',
      value: 'FILE',
      help: 'A vmlinuz or a vmlinux (default: that of the running kernel in /boot).',
    },
    {
      name: 'kernel-modules',
      value: 'DIR',
      help: 'Where its modules are: a root, its lib/modules, or the folder of one kernel (default /lib/modules).',
    },
    { name: 'kver', value: 'V', help: 'Which kernel, where there are several.' },
    {
      name: 'payload',
      value: 'SIZE,...',
      many: true,
      help: 'Sizes of payloads to make, as 10M or 0.5G, in millions of bytes (default 10M,100M,300M).',
    },
    {
      name: 'initramfs',
      value: 'FILE',
      many: true,
      help: 'An initramfs as payload; its own init does not run.',
    },
    {
      name: 'variants',
      value: 'NAME,...',
      many: true,
      help: 'Which to compare (default gzip,zstd,lz4,varve,varve-verity,varve-embed).',
    },
    { name: 'rounds', value: 'N', help: 'How often each boots (default 3).' },
    { name: 'memory', value: 'MB', help: 'Of the machine (default 1536).' },
    {
      name: 'least-memory',
      help: 'Also look for the smallest machine that boots, in steps of 16 MB.',
    },
    { name: 'timeout', value: 'SECONDS', help: 'For one boot (default 120).' },
    { name: 'output', short: 'o', value: 'DIR', help: 'Where results and charts go.' },
    { name: 'quiet', short: 'q', help: 'Say nothing meanwhile.' },
    { name: 'json', help: 'Print the results as JSON.' },
  ],
  examples: [
    ['varve boot bench -o results', 'the usual comparison, with the kernel of this machine'],
    [
      'varve boot bench --initramfs /boot/initrd.img --variants lz4,varve-verity --least-memory',
      'what the initramfs of this machine would gain',
    ],
  ],
  completes: 'nothing',
};
