// The `-o` options as a table: which exist, what their values may be, what they set, and what the manual says of them.
// Read by options.ts (to parse), and by the manual, the manual pages and the completions of cli/.
// Follows Documentation/filesystems/overlayfs.rst (Linux 6.18), fuse-overlayfs(1) 1.10, mount.fuse3(8).

import { DEFAULT_POLICY, type LoadPolicy } from '../lazy/protocol.js';
import { splitLayers } from './option-text.js';
import type { IdRange, MountSpec } from './spec.js';

export type Backend = 'auto' | 'fuse' | 'kernel';

/** What the options of one command line said; paths as written. */
export interface MountOptions extends Omit<MountSpec, 'mountpoint' | 'userxattr'> {
  readonly backend: Backend;
  readonly verity: 'off' | 'on' | 'require';
  /** undefined: `trusted.*` where privilege allows it. */
  readonly userxattr?: boolean;
  /** `metacopy` was named: it is not to follow from the layers. */
  readonly metacopyNamed?: boolean;
}

/** The options while they are read. */
export type Draft = { -readonly [K in keyof MountOptions]: MountOptions[K] } & {
  lowerdirs: string[];
  datadirs: string[];
  devices: string[];
  digests: string[];
};

/** Where an option comes from; documentation groups by it. */
export type OptionGroup = 'layers' | 'overlay' | 'fuse-overlayfs' | 'mount' | 'varve' | 'ignored';

/** One option: how it is written, what it means, what it does. */
export interface OptionRecord {
  readonly name: string;
  readonly group: OptionGroup;
  /** Form of the value for documentation (`on|off`); undefined: the option takes none. */
  readonly value?: string;
  /** The value may be left out. */
  readonly optional?: boolean;
  readonly help: string;
  /** Applies the unescaped value (for layer lists: the raw one). Returns what is wrong with it, or nothing. */
  readonly apply?: (draft: Draft, value: string, raw: string) => string | undefined;
}

const flag = (
  group: OptionGroup,
  name: string,
  help: string,
  set: (draft: Draft) => void,
): OptionRecord => ({
  name,
  group,
  help,
  apply: (draft) => {
    set(draft);
    return undefined;
  },
});

function choice<T extends string>(
  group: OptionGroup,
  name: string,
  values: readonly T[],
  help: string,
  set: (draft: Draft, value: T) => void,
): OptionRecord {
  return {
    name,
    group,
    value: values.join('|'),
    help,
    apply: (draft, value) => {
      const found = values.find((v) => v === value);
      if (found === undefined) return `must be one of ${values.join(', ')}`;
      set(draft, found);
      return undefined;
    },
  };
}

/** `name`, `name=1` or `name=0`. */
const bit = (
  name: string,
  help: string,
  set: (draft: Draft, on: boolean) => void,
): OptionRecord => ({
  name,
  group: 'fuse-overlayfs',
  value: '0|1',
  optional: true,
  help,
  apply: (draft, value) => {
    if (value !== '' && value !== '0' && value !== '1') return 'must be 0 or 1';
    set(draft, value !== '0');
    return undefined;
  },
});

const text = (
  group: OptionGroup,
  name: string,
  value: string,
  help: string,
  set: (draft: Draft, value: string) => void,
): OptionRecord => ({
  name,
  group,
  value,
  help,
  apply: (draft, given) => {
    if (given === '') return 'must not be empty';
    set(draft, given);
    return undefined;
  },
});

const ignored = (name: string, value?: string): OptionRecord => ({
  name,
  group: 'ignored',
  ...(value === undefined ? {} : { value, optional: true }),
  help: 'Accepted and without effect.',
});

const id = (
  name: string,
  help: string,
  set: (draft: Draft, value: number) => void,
): OptionRecord => ({
  name,
  group: 'fuse-overlayfs',
  value: 'ID',
  help,
  apply: (draft, value) => {
    const n = parseId(value);
    if (n === undefined) return 'must be a number from 0 to 4294967294';
    set(draft, n);
    return undefined;
  },
});

const mapping = (name: string, set: (draft: Draft, ranges: IdRange[]) => void): OptionRecord => ({
  name,
  group: 'fuse-overlayfs',
  value: 'DISK:SHOWN:COUNT[:...]',
  help: 'Ids DISK.. of the layers appear as SHOWN.. on the mount; others as the overflow id.',
  apply: (draft, value) => {
    const ranges = parseMapping(value);
    if (typeof ranges === 'string') return ranges;
    set(draft, ranges);
    return undefined;
  },
});

/** Kernel limit of layers in one stack, OVL_MAX_STACK. */
export const MAX_LAYERS = 500;

/** Every option, in the order in which the manual lists them. */
export const OPTIONS: readonly OptionRecord[] = [
  {
    name: 'lowerdir',
    group: 'layers',
    value: 'A:B:C[::D]',
    help: 'The read-only layers, topmost first. `\\:` is a colon inside a name; layers after `::` only give data to metacopy files.',
    apply: (draft, _, raw) => {
      const list = splitLayers(raw);
      if (typeof list === 'string') return list;
      for (const path of list.lowers) if (isPlugin(path)) return pluginRefused(path);
      draft.lowerdirs = [...list.lowers];
      draft.datadirs = [...list.data];
      return undefined;
    },
  },
  text('layers', 'lowerdir+', 'DIR', 'Adds one layer below those named before.', (d, v) => {
    d.lowerdirs.push(v);
  }),
  text(
    'layers',
    'datadir+',
    'DIR',
    'Adds one data-only layer below those named before.',
    (d, v) => {
      d.datadirs.push(v);
    },
  ),
  text(
    'layers',
    'upperdir',
    'DIR',
    'The layer that takes all changes. Without it the mount is read-only.',
    (d, v) => {
      d.upperdir = v;
    },
  ),
  text(
    'layers',
    'workdir',
    'DIR',
    'An empty directory on the filesystem of the upper, where changes are prepared.',
    (d, v) => {
      d.workdir = v;
    },
  ),
  text(
    'layers',
    'device',
    'FILE',
    'A further device of an image (its `--blobdev`); several in the order of the layers and of their device tables.',
    (d, v) => {
      d.devices.push(v);
    },
  ),
  {
    name: 'digest',
    group: 'layers',
    value: 'sha256:HEX|fsverity-sha256:HEX',
    help: 'What an image, or a further device, must be: with one named, a file that has none of those named is refused. sha256 is what sha256sum(1) prints, fsverity-sha256 (or HEX alone: the name that composefs gives an image) what `fsverity digest` prints. The kernel then takes images of other users too, as private copies. Of a layer of an image store its id may be named: it covers all of the layer, also what is still to come.',
    apply: (draft, value) => {
      const digest = parseDigest(value);
      if (digest === undefined) {
        return 'must be sha256: or fsverity-sha256: and 64 digits from 0 to f, or 64 such digits';
      }
      draft.digests.push(digest);
      return undefined;
    },
  },

  choice(
    'overlay',
    'redirect_dir',
    ['on', 'follow', 'nofollow', 'off'],
    'Whether directories of lower layers may be renamed (on), and whether such renames are followed.',
    (d, v) => {
      d.redirectDir = v;
    },
  ),
  choice(
    'overlay',
    'metacopy',
    ['on', 'off'],
    'on: a change of owner, mode or times copies no data up. Default on where a layer is one of an image store, else off.',
    (d, v) => {
      d.metacopy = v === 'on';
      d.metacopyNamed = true;
    },
  ),
  choice(
    'overlay',
    'index',
    ['on', 'off'],
    'on (default): hard links of lower layers stay hard links after a copy-up.',
    (d, v) => {
      d.index = v === 'on';
    },
  ),
  choice(
    'overlay',
    'xino',
    ['on', 'off', 'auto'],
    'For the kernel backend, as there. The FUSE backend needs none of it: its numbers are unique and never change.',
    (d, v) => {
      d.xino = v;
    },
  ),
  choice(
    'overlay',
    'uuid',
    ['on', 'off', 'auto', 'null'],
    'off: marks do not say which filesystem they mean (all layers are on one). Of the others only the kernel backend makes something.',
    (d, v) => {
      d.uuid = v;
    },
  ),
  flag('overlay', 'volatile', 'Nothing is synced: fast, and worthless after a crash.', (d) => {
    d.volatile = true;
  }),
  flag(
    'overlay',
    'userxattr',
    'Marks are user.overlay.* attributes (always so without privilege).',
    (d) => {
      d.userxattr = true;
    },
  ),
  choice(
    'overlay',
    'nfs_export',
    ['on', 'off'],
    'File handles that open after a new mount, for NFS (docs/nfs.md). Root only.',
    (d, v) => {
      d.nfsExport = v === 'on';
    },
  ),
  choice(
    'overlay',
    'verity',
    ['off', 'on', 'require'],
    'fs-verity digests of metacopy files; without --image, on and require need backend=kernel. With it: on compares every object that the image names a digest of, require also refuses an image that does not; off leaves the comparing out, in mode follow too.',
    (d, v) => {
      d.verity = v;
    },
  ),

  mapping('uidmapping', (d, v) => {
    d.uidMapping = v;
  }),
  mapping('gidmapping', (d, v) => {
    d.gidMapping = v;
  }),
  flag('fuse-overlayfs', 'squash_to_root', 'Every file appears to belong to root.', (d) => {
    d.squashUid = 0;
    d.squashGid = 0;
  }),
  id('squash_to_uid', 'Every file appears to belong to this user.', (d, v) => {
    d.squashUid = v;
  }),
  id('squash_to_gid', 'Every file appears to belong to this group.', (d, v) => {
    d.squashGid = v;
  }),
  flag('fuse-overlayfs', 'static_nlink', 'Directories report one link.', (d) => {
    d.staticNlink = true;
  }),
  flag('fuse-overlayfs', 'noacl', 'POSIX ACLs are refused.', (d) => {
    d.acl = false;
  }),
  flag(
    'varve',
    'ino32',
    'Inode numbers of 32 bits, for programs that take no others: two objects may then share one.',
    (d) => {
      d.ino32 = true;
    },
  ),
  flag(
    'varve',
    'raw',
    'One image, shown as it is: no whiteouts, no marks (`varve image mount`).',
    (d) => {
      d.raw = true;
    },
  ),
  {
    name: 'timeout',
    group: 'fuse-overlayfs',
    value: 'SECONDS',
    help: 'How long the kernel may keep names and attributes (default 86400).',
    apply: (draft, value) => {
      const seconds = Number(value);
      if (value === '' || !Number.isFinite(seconds) || seconds < 0) {
        return 'must be a number of seconds, 0 or more';
      }
      draft.timeout = Math.min(seconds, 1e9);
      return undefined;
    },
  },
  bit(
    'writeback',
    'Whether writes wait in the page cache (default: where passthrough is not to be had).',
    (d, v) => {
      d.writeback = v;
    },
  ),
  bit('fsync', '0: fsync is answered without being done.', (d, v) => {
    d.fsync = v;
  }),
  choice(
    'fuse-overlayfs',
    'xattr_permissions',
    ['0', '1', '2'],
    'Owner and mode are kept in an attribute: 1 security.*, 2 user.*',
    (d, v) => {
      d.xattrPermissions = Number(v) as 0 | 1 | 2;
    },
  ),
  bit('noxattrs', 'Extended attributes are refused.', (d, v) => {
    d.xattrs = !v;
  }),
  {
    name: 'plugins',
    group: 'fuse-overlayfs',
    value: 'LIST',
    help: 'Refused: layers are directories here.',
    apply: (_, value) =>
      value === '' ? undefined : 'plugins cannot be loaded here; name directories in lowerdir',
  },

  flag(
    'mount',
    'allow_other',
    'Other users may enter the mount (default for root); permissions are always checked.',
    (d) => {
      d.allowOther = true;
    },
  ),
  flag('mount', 'allow_root', 'As allow_other.', (d) => {
    d.allowOther = true;
  }),
  flag('mount', 'default_permissions', 'The kernel checks permissions (always on).', (d) => {
    d.defaultPermissions = true;
  }),
  text('mount', 'context', 'LABEL', 'SELinux label of every file of the mount.', (d, v) => {
    d.context = v;
  }),
  text(
    'mount',
    'fsname',
    'NAME',
    'The source shown in the mount table (default varve).',
    (d, v) => {
      d.fsname = v;
    },
  ),
  text(
    'mount',
    'subtype',
    'NAME',
    'The type shown in the mount table is fuse.NAME (default varve).',
    (d, v) => {
      d.subtype = v;
    },
  ),
  flag('mount', 'ro', 'Read-only, even with an upper.', (d) => {
    d.readOnly = true;
  }),
  flag('mount', 'rw', 'Writable (needs an upper).', (d) => {
    d.readOnly = false;
  }),
  flag('mount', 'suid', 'Set-user-id bits and capabilities count.', (d) => {
    d.nosuid = false;
  }),
  flag('mount', 'nosuid', 'They do not (default).', (d) => {
    d.nosuid = true;
  }),
  flag('mount', 'dev', 'Device files work.', (d) => {
    d.nodev = false;
  }),
  flag('mount', 'nodev', 'They do not (default).', (d) => {
    d.nodev = true;
  }),
  flag('mount', 'exec', 'Programs may be run (default).', (d) => {
    d.noexec = false;
  }),
  flag('mount', 'noexec', 'They may not.', (d) => {
    d.noexec = true;
  }),
  flag('mount', 'noatime', 'Access times are left alone.', (d) => {
    d.noatime = true;
  }),
  flag('mount', 'atime', 'They are not (default).', (d) => {
    d.noatime = false;
  }),

  choice(
    'varve',
    'whiteouts',
    ['kernel', 'aufs'],
    'aufs: `.wh.NAME` and `.wh..wh..opq` are whiteouts too.',
    (d, v) => {
      d.whiteouts = v;
    },
  ),
  {
    name: 'stall',
    group: 'varve',
    value: 'wait|eio|SECONDS',
    help: 'What a program meets whose content does not come from the registry: it waits, gets an error at once, or after so many seconds.',
    apply: (draft, value) => {
      const stall = parseStall(value);
      if (stall === undefined) return 'must be wait, eio or a number of seconds above 0';
      draft.load = { ...(draft.load ?? DEFAULT_POLICY), stall };
      return undefined;
    },
  },
  choice(
    'varve',
    'fill',
    ['on', 'off'],
    'off: of layers that are loaded on demand nothing is fetched that nobody asks for.',
    (d, v) => {
      d.load = { ...(d.load ?? DEFAULT_POLICY), fill: v === 'on' };
    },
  ),
  choice(
    'varve',
    'prefetch',
    ['on', 'off'],
    'off: nothing is fetched ahead, neither what a program needs nor what earlier runs have used (`varve record`).',
    (d, v) => {
      d.load = { ...(d.load ?? DEFAULT_POLICY), prefetch: v === 'on' };
    },
  ),
  choice(
    'varve',
    'record',
    ['on', 'off'],
    'on: write down in which order content of layers that are loaded on demand is used (`varve record`).',
    (d, v) => {
      d.load = { ...(d.load ?? DEFAULT_POLICY), record: v === 'on' };
    },
  ),
  choice('varve', 'backend', ['auto', 'fuse', 'kernel'], 'As --backend.', (d, v) => {
    d.backend = v;
  }),

  ...[
    'fast_ino',
    'threaded',
    'clone_fd',
    'max_idle_threads',
    'max_threads',
    'max_read',
    'max_write',
  ].map((n) => ignored(n, 'N')),
  ...[
    'ino32_t',
    'splice_read',
    'splice_write',
    'splice_move',
    'no_splice_read',
    'no_splice_write',
    'no_splice_move',
    'kernel_cache',
    'auto_cache',
    'auto_unmount',
    'big_writes',
    'nonempty',
    'relatime',
    'norelatime',
    'strictatime',
    'diratime',
    'nodiratime',
    'lazytime',
    'nolazytime',
    'async',
  ].map((n) => ignored(n)),
];

/** @returns the digest with its kind in front (`sha256:`, `fsverity-sha256:`, `fsverity-sha512:`). */
function parseDigest(value: string): string | undefined {
  if (/^(?:fsverity-)?sha256:[0-9a-f]{64}$/.test(value)) return value;
  if (/^fsverity-sha512:[0-9a-f]{128}$/.test(value)) return value;
  if (/^[0-9a-f]{64}$/.test(value)) return `fsverity-sha256:${value}`;
  return /^[0-9a-f]{128}$/.test(value) ? `fsverity-sha512:${value}` : undefined;
}

/** `wait`, `eio`, `30`, `30s` or `timeout=30s`. */
function parseStall(value: string): LoadPolicy['stall'] | undefined {
  if (value === 'wait' || value === 'eio') return value;
  const seconds = Number(/^(?:timeout=)?(\d+(?:\.\d+)?)s?$/.exec(value)?.[1]);
  return seconds > 0 ? seconds : undefined;
}

/** `//name/data/path`, the plugin form of fuse-overlayfs. */
function isPlugin(path: string): boolean {
  return /^\/\/[^/]+\/[^/]*\/./.test(path);
}

function pluginRefused(path: string): string {
  return `"${path}" asks for a plugin, which cannot be loaded here; name the directory (one leading slash)`;
}

const MAX_ID = 0xfffffffe;

function parseId(value: string): number | undefined {
  if (!/^\d{1,10}$/.test(value)) return undefined;
  const n = Number(value);
  return n <= MAX_ID ? n : undefined;
}

/** Triples `DISK:SHOWN:COUNT`. @returns what is wrong, when something is. */
function parseMapping(value: string): IdRange[] | string {
  const numbers = value.split(':').map(parseId);
  if (numbers.length % 3 !== 0) return 'must consist of triples DISK:SHOWN:COUNT';
  const ranges: IdRange[] = [];
  for (let i = 0; i < numbers.length; i += 3) {
    const [outside, inside, count] = numbers.slice(i, i + 3);
    if (outside === undefined || inside === undefined || count === undefined || count === 0) {
      return 'must consist of numbers, with COUNT above 0';
    }
    if (outside + count - 1 > MAX_ID || inside + count - 1 > MAX_ID) {
      return `${outside}:${inside}:${count} runs past the largest id`;
    }
    ranges.push({ inside, outside, count });
  }
  return ranges;
}
