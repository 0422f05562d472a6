// The command that makes a mount independent of what it was made of: detach.
// Part of the table in commands.ts.
// Holds text only.

import type { CommandRecord } from './command-record.js';

export const DETACH_COMMAND: CommandRecord = {
  name: 'detach',
  summary: 'let go of a layer under a mount that is in use',
  operands: 'MOUNTPOINT',
  count: [1, 1],
  description: [
    'Of a mount whose layers are being loaded from a registry: what is missing is fetched now, at full speed. When all of it is here the loader ends and the mount is as any local one; with --wait the command returns then. With --verify it also reads every layer back from the disk and compares it with its digests, as `varve images --verify` does: what is damaged is named, and the exit code is 3.',
    'With --lower everything that is seen through one lower is copied into the upper while the mount is in use; then the mount goes on without that lower, which may be unmounted, shut down or removed. Open files, mappings and working directories stay, and so do inode numbers. MOUNTPOINT may be a name of varve.yaml, which says the same afterwards.',
    'The command waits until the lower is gone. When it is interrupted, the copying goes on, and so does the last step; `varve status` tells how far it is. --cancel ends it: what was copied stays in the upper, where it changes nothing. If there is no space for all of it, the mount goes on as before.',
    'The kernel serves no mount whose layers could be exchanged: only mounts with --backend=fuse can be detached from a lower.',
  ],
  flags: [
    {
      name: 'lower',
      value: 'LOWER',
      help: 'The lower: its number, 1 is the topmost, or its path.',
    },
    { name: 'wait', help: 'Without --lower: return when everything is here.' },
    {
      name: 'verify',
      help: 'Without --lower: wait until everything is here, then compare all of it with its digests.',
    },
    {
      name: 'swap',
      help: 'Without --lower: wait until everything is here, then give a read-only mount to the kernel (root, Linux 6.5). st_dev changes; what is open stays with the server until it is closed.',
    },
    { name: 'no-wait', help: 'Only begin.' },
    { name: 'cancel', help: 'End what was begun.' },
    { name: 'json', help: 'Print JSON for programs instead of text.' },
    { name: 'quiet', short: 'q', help: 'Print nothing but errors.' },
  ],
  examples: [
    ['varve detach --wait /mnt', 'of a lazy mount: the registry may go'],
    ['varve detach --wait --verify /mnt', 'and nothing of it is damaged'],
    ['varve detach /mnt --lower 1', 'the topmost lower is needed no more'],
    ['varve detach /mnt --lower /srv/slow', 'the same by its path'],
    ['varve detach /mnt --lower 2 --no-wait', 'begin, and look at it by `varve status`'],
  ],
  completes: 'mount',
};
