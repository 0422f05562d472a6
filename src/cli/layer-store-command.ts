// The command `varve layer-store`.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const LAYER_STORE_COMMAND: CommandRecord = {
  name: 'layer-store',
  summary: 'give podman the layers of images without pulling them',
  operands: 'MOUNTPOINT',
  count: [1, 1],
  description: [
    'Mounts an additional layer store of containers/storage, for podman, buildah and CRI-O. With additionallayerstores=["MOUNTPOINT:ref"] below [storage.options] of storage.conf these look for each layer of an image here before they pull it, and use what they find in place: `podman run` starts when the metadata is here, and content is fetched when it is read.',
    'The first look at a layer fetches its metadata: of eStargz, zstd:chunked and indexed layers little, of others (tar archives compressed as one) the whole layer, once. What cannot be had here is pulled by podman as ever. What podman has of such an image are links to here: mount the layer store, under the same path, before such an image is used again.',
    'docs/podman-layers.md shows all of it.',
  ],
  flags: [
    {
      name: 'store',
      value: 'DIR',
      help: 'The image store (default $VARVE_IMAGES, else /var/lib/varve/images for root and ~/.local/share/varve/images otherwise).',
    },
    {
      name: 'trust-index',
      help: 'Believe an index that lies beside an image: its digest does not cover it.',
    },
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
    {
      name: 'options',
      short: 'o',
      value: 'OPTIONS',
      many: true,
      help: 'Further mount options; see `varve help mount`.',
    },
    { name: 'foreground', short: 'f', help: 'Stay until the mount is gone; Ctrl-C unmounts.' },
    { name: 'trace', help: "Print every request to the server's log." },
    { name: 'quiet', short: 'q', help: 'Say nothing on success.' },
    { name: 'json', help: 'Print JSON for programs instead of text.' },
  ],
  examples: [['varve layer-store /var/lib/varve/layers', 'as root, before podman']],
  completes: 'path',
};
