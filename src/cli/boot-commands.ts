// The commands about boot images as data, as far as they build: `varve boot build`.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const BOOT_BUILD_COMMAND: CommandRecord = {
  name: 'boot build',
  summary: 'make a mini-initramfs and an image of an initramfs',
  operands: '',
  count: [0, 0],
  description: [
    'An initramfs is unpacked whole into memory before anything runs. This command splits it: initoverlayfs.img is an image with all of its files, of which only those that are used are read; initramfs.img is a small initramfs that finds the image, checks it, mounts it under an overlay in memory and starts its /init.',
    'The payload is an initramfs (cpio archives, one behind the other, plain or compressed by gzip, zstd, lz4 or xz; microcode at its beginning stays there), or the tree below DIR. Modules for the mini-initramfs are those of the payload; without any, those of the running kernel; with --kernel-modules those of a folder.',
    'OUTDIR gets initramfs.img, the images, initoverlayfs.conf and boot.json. It appears when all is complete, and replaces the OUTDIR of an earlier build; a folder that is something else is refused. The same input gives the same bytes (with --format erofs).',
    'What the mini-initramfs compares before it uses an image is said by --verify: nothing (none); the digest of all of it, read once (digest); every block when it is read, by dm-verity (verity); or dm-verity by a root hash that is signed (signature; `varve boot sign`).',
    '--storage takes kinds (virtio, nvme, ata, scsi, usb, mmc, hyperv, xen, vmware) and names of modules, separated by commas. More in docs/boot.md.',
  ],
  flags: [
    { name: 'initramfs', value: 'FILE', help: 'The payload: an initramfs.' },
    { name: 'root', value: 'DIR', help: 'The payload: a tree that has /init.' },
    { name: 'output', short: 'o', value: 'OUTDIR', help: 'The folder to make.' },
    {
      name: 'layer',
      value: 'SOURCE',
      many: true,
      help: 'A further layer above: a folder, an initramfs, or an image that is ready. The last is the uppermost.',
    },
    {
      name: 'kernel-modules',
      value: 'DIR',
      help: 'Where the modules of the kernel are: a root, its lib/modules, or the folder of one kernel.',
    },
    { name: 'kver', value: 'V', help: 'Which kernel, where there are several.' },
    {
      name: 'storage',
      value: 'KIND,...',
      many: true,
      help: 'Drivers for these kinds of storage (default virtio, nvme, ata, usb, mmc).',
    },
    { name: 'host', help: 'The drivers that this machine needs for its disks.' },
    {
      name: 'bootfs',
      value: 'DEVICE',
      help: 'The filesystem that will have the images: UUID=, LABEL=, PARTLABEL=, PARTUUID=, or a path below /dev (with --host: that of /boot).',
    },
    {
      name: 'bootfstype',
      value: 'TYPE',
      help: 'Of that filesystem: ext4, vfat, xfs, btrfs and others (default auto: ext4 or vfat; with --host that of /boot).',
    },
    {
      name: 'path',
      value: 'PATH',
      help: 'Of the image in that filesystem (default /initoverlayfs.img; with --host in /boot); further layers lie beside it.',
    },
    { name: 'raw', help: 'The device is the image itself.' },
    { name: 'embed', help: 'Put the images into initramfs.img, uncompressed: no disk is needed.' },
    { name: 'format', value: 'erofs|btrfs', help: 'Of the images (default erofs).' },
    {
      name: 'compress',
      short: 'z',
      value: 'ALGORITHM[,LEVEL]',
      help: 'Of EROFS images: none, lz4, lz4hc (default), deflate, zstd or lzma, as far as the kernel knows them.',
    },
    {
      name: 'verify',
      value: 'none|digest|verity|signature',
      help: 'What is compared before use (default verity).',
    },
    { name: 'cert', value: 'FILE', help: 'With --verify signature: the certificate (PEM).' },
    { name: 'timeout', value: 'SECONDS', help: 'How long the device is waited for (default 30).' },
    {
      name: 'on-failure',
      value: 'shell|fallback|reboot|poweroff',
      help: 'What happens when the image cannot be used (default shell).',
    },
    {
      name: 'fallback',
      value: 'PATH[=FILE]',
      help: 'A complete initramfs, by its path in the boot filesystem; FILE is what lies there (default: that of --initramfs).',
    },
    {
      name: 'overlay-size',
      value: 'SIZE',
      help: 'Memory for changes, as tmpfs(5) says it (default 50%).',
    },
    {
      name: 'mini-compress',
      value: 'none|gzip|lz4|zstd|xz',
      help: 'Of initramfs.img (default lz4).',
    },
    {
      name: 'time',
      value: 'SECONDS',
      help: 'Modification time of everything, since 1970 (default: $SOURCE_DATE_EPOCH, else that of each file).',
    },
    {
      name: 'no-settings',
      help: 'Leave /etc/varve/boot.conf unread; otherwise what it says counts where no flag says it.',
    },
    { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
    { name: 'json', help: 'Print boot.json instead of text.' },
  ],
  examples: [
    [
      'varve boot build --initramfs /boot/initrd.img-6.1.0 --host -o out',
      'for this machine, found by the UUID of /boot',
    ],
    [
      'varve boot build --root tree --kernel-modules /srv/kernel --storage virtio --bootfs LABEL=boot -o out',
      'of a tree, for a virtual machine',
    ],
    ['varve boot build --initramfs in.img --embed -o out', 'in one file, for the network'],
  ],
  completes: 'nothing',
};
