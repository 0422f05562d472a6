// The commands about images as data: `varve image build`, `ls`, `check` and so on.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { CommandRecord } from './command-record.js';

const JSON_FLAG = { name: 'json', help: 'Print JSON for programs instead of text.' } as const;
const DEVICE_FLAG = {
  name: 'device',
  value: 'FILE',
  many: true,
  help: 'A further device of the image, in the order of its device table (what --blobdev wrote).',
} as const;

export const IMAGE_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'image build',
    summary: 'make an EROFS image of a directory or an archive',
    operands: '[SOURCE]',
    count: [0, 1],
    description: [
      'SOURCE is a directory, a tar archive (plain, gzip, zstd or xz), a cpio archive such as an initramfs (also several, compressed, one after the other), or a composefs dump; - is standard input. The kernel mounts the image, and every varve mount takes it as a layer.',
      'The same source gives the same bytes, whatever the machine: the UUID follows from the content unless it is given. Files are compressed by all processors. The image appears under its name when it is complete.',
      'With --composefs the image holds metadata and files of up to 64 bytes; the others are objects that it names by their fs-verity digest, in the store that --digest-store names. It is byte for byte the image of mkcomposefs, so that its own digest names the tree. Of a dump it takes what the dump says; hard links of a directory become files of their own, as there.',
    ],
    flags: [
      { name: 'output', short: 'o', value: 'IMAGE', help: 'The image to write.' },
      {
        name: 'compress',
        short: 'z',
        value: 'ALGORITHM[,LEVEL]',
        many: true,
        help: 'none (default), lz4, lz4hc, deflate, zstd or lzma. A second one is used where it is named for paths: -z zstd,9:usr/share.',
      },
      {
        name: 'cluster',
        short: 'C',
        value: 'BYTES',
        help: 'Largest compressed cluster: 4096 (default) to 1048576. Larger ones compress better and are slower to read in parts.',
      },
      { name: 'tail-packing', help: 'Put the compressed end of a file beside its inode.' },
      { name: 'fragments', help: 'Pack ends of files, and small files, together.' },
      { name: 'dedupe', help: 'Store equal data once.' },
      {
        name: 'chunksize',
        value: 'BYTES',
        help: 'Uncompressed data in chunks of this size, which may be shared and left out (holes).',
      },
      {
        name: 'blobdev',
        value: 'FILE',
        help: 'Chunks go to this file; the image holds the metadata only.',
      },
      {
        name: 'exclude',
        value: 'PATTERN',
        many: true,
        help: 'Leave out paths that match: a glob over the path below SOURCE.',
      },
      { name: 'force-uid', value: 'UID', help: 'Every file belongs to this user.' },
      { name: 'force-gid', value: 'GID', help: 'Every file belongs to this group.' },
      { name: 'all-root', help: 'As --force-uid 0 --force-gid 0.' },
      { name: 'time', short: 'T', value: 'SECONDS', help: 'Every time is this (since 1970).' },
      { name: 'uuid', short: 'U', value: 'UUID', help: 'UUID of the image.' },
      { name: 'label', short: 'L', value: 'NAME', help: 'Volume name, up to 15 bytes.' },
      {
        name: 'no-xattrs',
        help: 'Leave extended attributes, ACLs and capabilities out.',
      },
      { name: 'threads', value: 'N', help: 'Threads that compress or hash (default: processors).' },
      { name: 'composefs', help: 'Make a composefs image.' },
      {
        name: 'digest-store',
        value: 'DIR',
        help: 'With --composefs: files become objects DIR/XX/... here. Without, the image is made all the same.',
      },
      {
        name: 'format-version',
        value: '0|1',
        help: 'With --composefs: default is 0, and 1 where the tree has whiteouts.',
      },
      {
        name: 'print-digest',
        help: "With --composefs: print the image's fs-verity digest. Without -o that is all.",
      },
      { name: 'from-dump', value: 'FILE', help: 'In place of SOURCE: a composefs dump.' },
      { name: 'quiet', short: 'q', help: 'No progress and no summary.' },
      JSON_FLAG,
    ],
    examples: [
      ['varve image build -z lz4hc -o usr.erofs /usr', 'a compressed layer in one file'],
      ['zcat layer.tar.gz | varve image build -o layer.erofs -', 'from an archive'],
      ['varve image build --composefs --digest-store objects -o img /usr', 'metadata and objects'],
    ],
    completes: 'path',
  },
  {
    name: 'image info',
    summary: 'tell what an image is made of, and where its bytes go',
    operands: 'IMAGE',
    count: [1, 1],
    description: [
      'Prints the superblock, the features, how many objects of each kind there are, how well each algorithm compresses, and how much each folder at the top takes.',
    ],
    flags: [JSON_FLAG, DEVICE_FLAG],
    examples: [['varve image info usr.erofs', 'metadata, data, ratio']],
    completes: 'path',
  },
  {
    name: 'image ls',
    summary: 'list what is in an image',
    operands: 'IMAGE [PATH]',
    count: [1, 2],
    description: ['Lists PATH (default: the root), without mounting anything.'],
    flags: [
      { name: 'long', short: 'l', help: 'Mode, links, owner, size and time, as ls -l.' },
      { name: 'recursive', short: 'R', help: 'All below it, one path a line.' },
      { name: 'tree', help: 'All below it, drawn as a tree.' },
      JSON_FLAG,
      DEVICE_FLAG,
    ],
    examples: [['varve image ls -l usr.erofs bin', '']],
    completes: 'path',
  },
  {
    name: 'image cat',
    summary: 'print a file of an image',
    operands: 'IMAGE PATH...',
    count: [2, Number.POSITIVE_INFINITY],
    description: [
      'Writes the content of each PATH to standard output. Only what is read is decompressed.',
    ],
    flags: [DEVICE_FLAG],
    examples: [['varve image cat usr.erofs lib/os-release', '']],
    completes: 'path',
  },
  {
    name: 'image dump',
    summary: 'print the whole tree of an image as text',
    operands: 'IMAGE',
    count: [1, 1],
    description: [
      'One line an object, in the form of composefs-dump(5), with the SHA-256 digest of each content: two images with the same dump hold the same tree. `varve image build` takes such a text back.',
      'Of a composefs image it is the dump that the image is made of: small files with their content, the others with their object and its fs-verity digest.',
    ],
    flags: [
      { name: 'raw', help: 'A composefs image as it lies there, with the marks for overlayfs.' },
      DEVICE_FLAG,
    ],
    examples: [['diff <(varve image dump a.erofs) <(varve image dump b.erofs)', 'what differs']],
    completes: 'path',
  },
  {
    name: 'image extract',
    summary: 'write the tree of an image to a directory',
    operands: 'IMAGE TARGET',
    count: [2, 2],
    description: [
      'Owners (for root), modes, times, links, extended attributes, devices and holes are kept. Nothing is written outside of TARGET, whatever the image says. TARGET must not exist or be empty; a new one appears when it is complete.',
    ],
    flags: [
      { name: 'path', value: 'PATH', help: 'Only this part of the image.' },
      DEVICE_FLAG,
      { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
    ],
    examples: [['varve image extract usr.erofs copy', '']],
    completes: 'path',
  },
  {
    name: 'image check',
    summary: 'check an image through and through',
    operands: 'IMAGE',
    count: [1, 1],
    description: [
      'Checks the superblock and its checksum, every inode, every directory (order, names, types, links), every extended attribute, and decompresses all data. Exit code 3 when something is wrong; each fault is named with the structure, the field and the byte.',
    ],
    flags: [
      { name: 'metadata', help: 'Do not read the data.' },
      { name: 'quiet', short: 'q', help: 'Only the exit code.' },
      JSON_FLAG,
      DEVICE_FLAG,
    ],
    examples: [['varve image check usr.erofs', '']],
    completes: 'path',
  },
  {
    name: 'image mount',
    summary: 'mount an image, read-only',
    operands: 'IMAGE MOUNTPOINT',
    count: [2, 2],
    description: [
      "Shows the image as it is: the same as `varve mount -o lowerdir=IMAGE,raw MOUNTPOINT`, where whiteouts and overlay marks mean nothing. By default varve's own server reads the image, for root and for everybody else: it trusts nothing in it. --backend=kernel hands it to the kernel, which does: only for images that you made, or whose digest you name with -o digest=sha256:HEX.",
    ],
    flags: [
      {
        name: 'options',
        short: 'o',
        value: 'OPTIONS',
        many: true,
        help: 'Further mount options; see `varve help mount`.',
      },
      DEVICE_FLAG,
      { name: 'backend', value: 'auto|fuse|kernel', help: 'Who reads the image (default auto).' },
      { name: 'foreground', short: 'f', help: 'Stay until the mount is gone; Ctrl-C unmounts.' },
      { name: 'trace', help: "Print every request to the server's log." },
      { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
      JSON_FLAG,
    ],
    examples: [['varve image mount usr.erofs /mnt', '']],
    completes: 'path',
  },
];
