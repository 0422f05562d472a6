// The commands about stores: `varve store init`, `add`, `ls` and so on.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const QUIET_FLAG: FlagRecord = { name: 'quiet', short: 'q', help: 'Say nothing on success.' };
const STORE_FLAG: FlagRecord = {
  name: 'store',
  value: 'DIR',
  help: 'The store (default $VARVE_STORE, else /var/lib/varve/store for root and ~/.local/share/varve/store otherwise).',
};

export const STORE_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'store init',
    summary: 'make an empty store of content and images',
    operands: '[DIR]',
    count: [0, 1],
    description: [
      'A store holds the content of files as objects, each once, under the fs-verity digest of its bytes (objects/XX/REST), and images: small EROFS files with the metadata of a tree, which name their objects. Its layout is that of a composefs-rs repository; an existing one, and a digest store of mkcomposefs, can be mounted from and checked.',
      'What is a store already stays as it is. Where the filesystem has fs-verity, it is enabled on the new store, and then on everything that is added.',
    ],
    flags: [STORE_FLAG, QUIET_FLAG, JSON_FLAG],
    examples: [['varve store init /srv/store', '']],
    completes: 'directory',
  },
  {
    name: 'store add',
    summary: 'store a directory, an archive or a dump as an image',
    operands: 'SOURCE',
    count: [1, 1],
    description: [
      'SOURCE is a directory, a tar or cpio archive (plain, gzip, zstd or xz), or a composefs dump, whose objects must be in the store; - is standard input. Files of more than 64 bytes become objects, unless the store has them; the others stay in the image, which is the one that mkcomposefs makes, byte for byte. Prints the digest of the image.',
      'The image and its name appear when everything is on disk. A call that is killed leaves a valid store, and objects that the next gc removes; so does one whose source changes while it is read.',
    ],
    flags: [
      {
        name: 'name',
        value: 'NAME',
        help: 'Call the image so, in place of what had the name; words with / between them. An image without a name is taken away by the next gc.',
      },
      {
        name: 'format-version',
        value: '0|1',
        help: 'Format of the image (default: 1 when there are whiteouts, else 0, as mkcomposefs).',
      },
      {
        name: 'exclude',
        value: 'PATTERN',
        many: true,
        help: 'Leave out paths that match: a glob over the path below SOURCE.',
      },
      { name: 'threads', value: 'N', help: 'Threads that hash and copy (default: processors).' },
      STORE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve store add --name os/trixie rootfs.tar.zst', 'an archive, with a name'],
      ['varve mount --image os/trixie --store /srv/store /mnt', 'and mounted'],
    ],
    completes: 'path',
  },
  {
    name: 'store ls',
    summary: 'list the images of a store',
    operands: '[DIR]',
    count: [0, 1],
    description: ['Prints names, digests, the size of the metadata, and when it was added.'],
    flags: [{ name: 'digests', help: 'Digests in full.' }, STORE_FLAG, JSON_FLAG],
    examples: [['varve store ls /srv/store', '']],
    completes: 'directory',
  },
  {
    name: 'store show',
    summary: 'tell about one image of a store',
    operands: 'IMAGE',
    count: [1, 1],
    description: [
      'IMAGE is a name, a digest, or the first digits of one (eight at least). Prints its names, where it lies, and how much it refers to. Exit code 3 when it cannot be read.',
    ],
    flags: [
      { name: 'objects', help: 'One line a file instead: object, bytes, path.' },
      STORE_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve store show os/trixie --store /srv/store', '']],
    completes: 'nothing',
  },
  {
    name: 'store rm',
    summary: 'take names of images away',
    operands: 'NAME...',
    count: [1, Number.POSITIVE_INFINITY],
    description: ['The images stay until the next gc, and those with other names for longer.'],
    flags: [STORE_FLAG, QUIET_FLAG],
    examples: [['varve store rm os/bookworm', '']],
    completes: 'nothing',
  },
  {
    name: 'store gc',
    summary: 'remove what no image with a name, and no mount, needs',
    operands: '[DIR]',
    count: [0, 1],
    description: [
      'Images stay that have a name, are mounted, or are held open by a server; objects stay that such an image, or a stream of composefs-rs, needs. Everything else goes, with what killed calls left. While somebody adds to the store nothing is removed (exit code 5). A gc that is killed leaves a valid store.',
    ],
    flags: [
      { name: 'dry-run', short: 'n', help: 'Only tell what would be removed.' },
      STORE_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [['varve store gc -n', 'see first']],
    completes: 'directory',
  },
  {
    name: 'store check',
    summary: 'check a store through and through',
    operands: '[DIR]',
    count: [0, 1],
    description: [
      'Reads every object and compares it with its name, and checks every link, every name and every image: each object that an image needs must be there and have the right size. One line a fault; exit code 3 when there is one. Nothing is repaired.',
    ],
    flags: [
      { name: 'links', help: 'Do not read the objects.' },
      { name: 'threads', value: 'N', help: 'Threads that read (default: processors).' },
      STORE_FLAG,
      { name: 'quiet', short: 'q', help: 'Only the exit code.' },
      JSON_FLAG,
    ],
    examples: [['varve store check /srv/store', '']],
    completes: 'directory',
  },
  {
    name: 'store du',
    summary: 'tell what each image of a store takes',
    operands: '[DIR]',
    count: [0, 1],
    description: [
      'For each image: bytes of content that it alone uses, bytes that other images use too, both together, and its metadata. OWN and METADATA are what removing it would free.',
    ],
    flags: [{ name: 'bytes', short: 'b', help: 'Bytes, without units.' }, STORE_FLAG, JSON_FLAG],
    examples: [['varve store du', '']],
    completes: 'directory',
  },
];
