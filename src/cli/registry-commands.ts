// The commands about registries and what comes from them: `varve push`, `pull`, `images`, `record`, `top`, `evict`.
// Part of commands.ts; command-record.ts says what the fields mean. `mount` and `run` take images of registries too.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };
const QUIET_FLAG: FlagRecord = { name: 'quiet', short: 'q', help: 'Say nothing on success.' };

/** Which folder has what was pulled. */
const IMAGES_FLAG: FlagRecord = {
  name: 'store',
  value: 'DIR',
  help: 'The image store (default $VARVE_IMAGES, else /var/lib/varve/images for root and ~/.local/share/varve/images otherwise).',
};

/** How a registry is spoken to; of every command that does. */
const ACCESS_FLAGS: readonly FlagRecord[] = [
  { name: 'plain-http', help: 'Speak HTTP without TLS to the registry.' },
  {
    name: 'authfile',
    value: 'FILE',
    help: "Credentials (default $REGISTRY_AUTH_FILE, then the containers' auth.json, then ~/.docker/config.json).",
  },
  {
    name: 'signature-policy',
    value: 'FILE',
    help: 'Which images may be used, as policy.json says it (default ~/.config/containers/policy.json, then /etc/containers/policy.json).',
  },
];

const RATE = { name: 'limit-rate', value: 'BYTES' } as const;

const REGISTRY_FLAGS: readonly FlagRecord[] = [
  ...ACCESS_FLAGS,
  {
    ...RATE,
    help: 'Fetch and send at most so many bytes a second; K, M and G are understood.',
  },
];

const PLATFORM_FLAG: FlagRecord = {
  name: 'platform',
  value: 'OS/ARCH[/VARIANT]',
  help: 'Which image of an index (default: that of this machine).',
};
const INDEX_FLAG: FlagRecord = {
  name: 'trust-index',
  help: 'Believe an index that lies beside the image: its digest does not cover it.',
};

/** Of `mount` and `run`, for images of registries. */
export const LAZY_FLAGS: readonly FlagRecord[] = [
  {
    name: 'lazy',
    help: 'Do not wait for the content of an image of a registry: fetch what is read, the rest in the background.',
  },
  PLATFORM_FLAG,
  INDEX_FLAG,
  {
    name: 'stall',
    value: 'wait|eio|SECONDS',
    help: 'What a reader meets when content does not come: it waits (default), gets an error at once, or after SECONDS.',
  },
  { name: 'no-fill', help: 'Fetch nothing that nobody reads.' },
  {
    name: 'no-prefetch',
    help: 'Do not fetch ahead: neither what a program needs nor the recorded order.',
  },
  ...ACCESS_FLAGS,
  {
    ...RATE,
    help: 'Fetch at most so many bytes a second; K, M and G are understood, 0 is no limit. Also what the loader fetches, for all mounts together, until it is told something else (`varve top --limit-rate`).',
  },
];

export const REGISTRY_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'pull',
    summary: 'fetch an image from a registry',
    operands: 'REF',
    count: [1, 1],
    description: [
      'REF is REGISTRY/REPOSITORY[:TAG][@DIGEST]. Fetches the image into the image store: images pushed by varve, and OCI and Docker images whose layers are tar archives (gzip, zstd, eStargz, zstd:chunked). Every piece is compared with its digest before it counts. What other images of the store have is not fetched again.',
      'With --lazy the metadata alone is fetched, where the form of the layers allows it; content comes when it is read. A call that is killed leaves nothing that is wrong, and the next one goes on.',
      'Credentials, mirrors, certificates, proxies and signature policies are those of other container tools (see docs/registry-access.md).',
    ],
    flags: [
      { name: 'lazy', help: 'Fetch metadata only.' },
      PLATFORM_FLAG,
      INDEX_FLAG,
      IMAGES_FLAG,
      ...REGISTRY_FLAGS,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve pull registry.example.org/debian:12', ''],
      ['varve pull --lazy --plain-http localhost:5000/big', 'its content stays where it is'],
    ],
    completes: 'nothing',
  },
  {
    name: 'push',
    summary: 'put a tree, an image or a stack into a registry',
    operands: 'SOURCE REF',
    count: [2, 2],
    description: [
      'SOURCE is a directory, an EROFS image, an archive (tar, cpio), the name or mount point of a stack, or the name of an image in the image store. It becomes an image whose content is cut into chunks, each stored once; what the repository has already is not sent again, so that a changed tree costs what was changed.',
      'With --index, SOURCE names an image that was pulled from REF as a tar image: its layers stay as they are, and a small index is put beside it by which others mount it lazily.',
    ],
    flags: [
      {
        name: 'like',
        value: 'REF',
        many: true,
        help: 'An image of the same registry whose chunks are used again, besides what REF is now.',
      },
      {
        name: 'chunk-size',
        value: 'BYTES',
        help: 'Largest chunk, a multiple of 4096 (default 128K).',
      },
      { name: 'level', value: 'N', help: 'Level of zstd (default 6).' },
      { name: 'index', help: 'Put the index of a tar image beside it, and nothing else.' },
      IMAGES_FLAG,
      ...REGISTRY_FLAGS,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve push ./rootfs registry.example.org/os:1', ''],
      [
        'varve push --index localhost:5000/app localhost:5000/app',
        'for lazy mounts of a tar image',
      ],
    ],
    completes: 'path',
  },
  {
    name: 'images',
    summary: 'list what was pulled, remove it',
    operands: '[REF...]',
    count: [0, Number.POSITIVE_INFINITY],
    description: [
      'Prints the images of the image store: how many layers each has, how many bytes, and how many of them are here. With --rm the named images are removed, and the layers that no other image and no mount uses.',
      'With --verify everything that is here of them (without REF: of all layers) is read back from the disk and compared with its digest: metadata, the table of chunks, and each chunk. Layers that are damaged are named with the files that are, and the exit code is 3. --repair fetches what is damaged again and writes it in place, also while the layer is used; a layer whose metadata is damaged is pulled anew, which needs it unmounted.',
    ],
    flags: [
      { name: 'verify', help: 'Read back what is here and compare it with its digests.' },
      { name: 'repair', help: 'As --verify, and fetch again what is damaged.' },
      { name: 'rm', help: 'Remove the named images.' },
      { name: 'force', help: 'With --rm: also what podman has from a layer store.' },
      { name: 'prune', help: 'Remove layers that nothing uses, and what killed calls left.' },
      IMAGES_FLAG,
      ...REGISTRY_FLAGS,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve images', ''],
      ['varve images --rm localhost:5000/big', ''],
      ['varve images --verify', 'is everything as it was pulled?'],
    ],
    completes: 'nothing',
  },
  {
    name: 'record',
    summary: 'remember what a lazy mount needs first',
    operands: 'REF [-- COMMAND [ARG...]]',
    count: [1, Number.POSITIVE_INFINITY],
    description: [
      'Runs COMMAND (default: that of the image) as `varve run` does and records in which order content is used. Later mounts of the image fetch it ahead in that order; `varve push` sends the order along.',
    ],
    flags: [PLATFORM_FLAG, INDEX_FLAG, IMAGES_FLAG, ...REGISTRY_FLAGS, QUIET_FLAG],
    examples: [["varve record localhost:5000/os -- bash -c 'apt-get --version'", '']],
    completes: 'nothing',
  },
  {
    name: 'top',
    summary: 'watch what is being loaded',
    operands: '[MOUNTPOINT]',
    count: [0, 1],
    description: [
      'Shows, once a second, for each layer that is being loaded: bytes here and in all, who waits for what and for how long, the rate and the time left. Ctrl-C or q ends it.',
      'With --limit-rate the loader fetches at most so much from now on, for all mounts together: the last one that was given holds, by this or by a mount, until nothing is left to load.',
    ],
    flags: [
      { name: 'once', help: 'Print it once and end.' },
      { name: 'interval', value: 'SECONDS', help: 'Time between two looks (default 1).' },
      { name: 'html', value: 'FILE', help: 'Write a page with a map of what is here instead.' },
      {
        ...RATE,
        help: 'What is being loaded takes at most so many bytes a second from now on; K, M and G are understood, 0 is no limit.',
      },
      JSON_FLAG,
    ],
    examples: [
      ['varve top', ''],
      ['varve top --html heat.html /mnt', 'as a picture'],
      ['varve top --once --limit-rate 2M', 'leave some of the line to others'],
    ],
    completes: 'mount',
  },
  {
    name: 'evict',
    summary: 'give back the space of content that can be fetched again',
    operands: 'MOUNTPOINT|REF',
    count: [1, 1],
    description: [
      'Removes content that was not used lately: of the layers of a mount that stands, or of an image that is not mounted. It is fetched again when it is read. A mount that the kernel shows alone must be unmounted first; then its image is named. A layer that is all here stays as it is while the kernel has it mounted, too, in whatever namespace, or another user or command reads it.',
    ],
    flags: [
      {
        name: 'keep',
        value: 'BYTES',
        help: 'Leave the last used so many bytes of each layer (default 0).',
      },
      IMAGES_FLAG,
      QUIET_FLAG,
      JSON_FLAG,
    ],
    examples: [
      ['varve evict --keep 100M /mnt', ''],
      ['varve evict registry.example.org/os:1', 'of an image that is not mounted'],
    ],
    completes: 'mount',
  },
];
