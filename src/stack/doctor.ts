// What this machine offers of the things that varve uses: each feature tried once, with what happens without it.
// Called by `varve doctor`; makes and removes temporary files, and one FUSE mount that nobody sees.
// Each probe does the very call that varve would do, and believes nothing else.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { FuseInHeader, FuseInitIn } from '../fuse/abi.js';
import { initFlagNames } from '../fuse/session.js';
import { AT, MAGIC, O, RENAME, S } from '../linux/constants.js';
import { E, errnoName, SysError } from '../linux/errno.js';
import {
  cloneFile,
  close,
  emptyPath,
  fstatfs,
  ioctlAt,
  mknodAt,
  openAt,
  openBeneath,
  read,
  renameAt,
  setNonblocking,
} from '../linux/files.js';
import { filesystemUuid, nameToHandle } from '../linux/handles.js';
import { ret, syscall } from '../linux/libc.js';
import { base, getU64, mapMemory, putBytes, scratch, u8 } from '../linux/memory.js';
import { mountFuse, unmountFuse } from '../linux/mount.js';
import { cloneMount } from '../linux/mount-api.js';
import { mountOf, mountTable } from '../linux/mountinfo.js';
import { removexattrAt, setxattrAt } from '../linux/xattr.js';
import { requestBuffer } from '../vfs/layout.js';
import { composefsFeatures } from './doctor-composefs.js';
import { type Feature, feature } from './doctor-feature.js';
import { privilege } from './privilege.js';

export interface DirectoryReport {
  readonly directory: string;
  readonly filesystem: string;
  readonly features: readonly Feature[];
}

export interface DoctorReport {
  readonly kernel: string;
  readonly node: string;
  readonly user: {
    readonly euid: number;
    readonly mayMount: boolean;
    readonly initialNamespace: boolean;
  };
  readonly features: readonly Feature[];
  readonly directories: readonly DirectoryReport[];
}

/** @param directories where uppers are to lie. */
export function examine(directories: readonly string[]): DoctorReport {
  mapMemory();
  const rights = privilege();
  const folder = mkdtempSync(join(tmpdir(), 'varve-doctor-'));
  try {
    return {
      kernel: release(),
      node: process.version,
      user: {
        euid: rights.euid,
        mayMount: rights.mayMount,
        initialNamespace: rights.initialNamespace,
      },
      features: [...fuseFeatures(folder), ...kernelFeatures(folder), ...composefsFeatures(folder)],
      directories: directories.map(directoryReport),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// --- FUSE ---

/** The kernel refuses a read into less than FUSE_MIN_READ_BUFFER (8 KiB). */
const READ_SIZE = 64 * 1024;

/** What INIT said, or why there was none. */
type Probe =
  | { readonly minor: number; readonly names: readonly string[]; readonly by: string }
  | { readonly fault: string };

/** Mounts, reads the kernel's INIT, unmounts: only so is it known what the kernel offers to this user. */
function probeInit(folder: string): Probe {
  let fd: number | undefined;
  try {
    const mounted = mountFuse({
      mountpoint: folder,
      fsname: 'varve-doctor',
      subtype: 'varve-doctor',
    });
    fd = mounted.fd;
    setNonblocking(fd, false);
    const at = requestBuffer(0);
    const n = read(fd, at, READ_SIZE);
    if (n < FuseInHeader.size + 16)
      return { fault: `INIT: ${n < 0 ? errnoName(n) : `${n} bytes`}` };
    const init = FuseInitIn.decode(new DataView(u8.buffer, at + FuseInHeader.size));
    const flags2 = n >= FuseInHeader.size + FuseInitIn.size ? init.flags2 : 0;
    return { minor: init.minor, names: initFlagNames(init.flags, flags2), by: mounted.by };
  } catch (error) {
    const said =
      error instanceof SysError && error.cause instanceof Error ? `: ${error.cause.message}` : '';
    return { fault: `${error instanceof Error ? error.message : error}${said}` };
  } finally {
    if (fd !== undefined) {
      try {
        unmountFuse(folder, true);
      } finally {
        closeSync(fd);
      }
    }
  }
}

function fuseFeatures(folder: string): Feature[] {
  const probe = probeInit(folder);
  if ('fault' in probe) {
    return [
      {
        name: 'FUSE mount',
        verdict: 'missing',
        detail: probe.fault,
        without: existsSync('/dev/fuse')
          ? 'install fusermount3 (package fuse3), run as root, or run inside "unshare -Urm"'
          : 'load the module fuse; until then only --backend=kernel works, for root',
      },
    ];
  }
  const offered = (name: string): boolean => probe.names.includes(name);
  const rights = privilege();
  return [
    {
      name: 'FUSE mount',
      verdict: 'yes',
      detail: `by ${probe.by === 'mount' ? 'mount(2)' : 'fusermount3'}`,
    },
    { name: 'FUSE protocol', verdict: 'yes', detail: `7.${probe.minor}` },
    feature(
      'passthrough',
      offered('PASSTHROUGH') && rights.full,
      'file data goes through the server; writes wait in the page cache instead',
      !offered('PASSTHROUGH')
        ? 'Linux 6.9 and newer'
        : rights.full
          ? undefined
          : 'root of the initial namespace only',
    ),
    feature('writeback cache', offered('WRITEBACK_CACHE'), 'each write is one request'),
    feature('POSIX ACLs', offered('POSIX_ACL'), 'ACLs are stored, not checked'),
    feature(
      'readdirplus',
      offered('DO_READDIRPLUS'),
      'one request more for each file of a listing',
    ),
    feature(
      'kill-priv v2',
      offered('HANDLE_KILLPRIV_V2'),
      'the kernel asks for capabilities before each write',
    ),
    feature('resend', offered('HAS_RESEND'), 'requests of a server that dies end with an error'),
    feature(
      'FUSE over io_uring',
      ioUring() && offered('OVER_IO_URING'),
      'requests are read one by one (varve does so anyway)',
    ),
    feature(
      'allow_other',
      rights.mayMount || /^\s*user_allow_other/m.test(readText('/etc/fuse.conf')),
      'only this user may enter its mounts (user_allow_other in /etc/fuse.conf permits more)',
    ),
    feature(
      'abort control',
      existsSync('/sys/fs/fuse/connections') &&
        lstatSync('/sys/fs/fuse/connections').isDirectory() &&
        mountOf('/sys/fs/fuse/connections')?.type === 'fusectl',
      'a stuck mount can only be ended by ending its server',
    ),
  ];
}

function ioUring(): boolean {
  return readText('/sys/module/fuse/parameters/enable_uring').trim() === 'Y';
}

// --- kernel ---

function kernelFeatures(folder: string): Feature[] {
  const rights = privilege();
  const overlay = /\boverlay$/m.test(readText('/proc/filesystems'));
  const parameters = ['redirect_dir', 'metacopy', 'index', 'xino_auto', 'nfs_export']
    .map((name) => [name, readText(`/sys/module/overlay/parameters/${name}`).trim()] as const)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${value}`);
  putBytes(scratch + PATH_AT, folder);
  const beneath = openFolder(folder, (fd) => {
    putBytes(scratch + NAME_AT, '.');
    return openBeneath(fd, scratch + NAME_AT, O.PATH);
  });
  const clone = cloneMount(scratch + PATH_AT, true);
  if (clone >= 0) close(clone);
  const xattrat = ret(syscall(SYS_listxattrat, AT.FDCWD, base + scratch + PATH_AT, 0, 0, 0, 0));
  return [
    feature(
      'kernel overlayfs',
      overlay,
      'read-only stacks are served by varve, too',
      parameters.join(' ') || undefined,
    ),
    feature('user namespaces', userNamespaces(), 'without fusermount3 only root can mount'),
    feature(
      'fusermount3',
      hasProgram('fusermount3'),
      rights.mayMount ? 'not needed here' : 'mounting needs root or a user namespace',
    ),
    feature(
      'openat2',
      beneath >= 0,
      'paths in layers are walked one name at a time',
      beneath < 0 ? errnoName(beneath) : undefined,
    ),
    feature('*xattrat calls', xattrat !== -E.NOSYS, 'attributes are reached through /proc/self/fd'),
    feature(
      'private layer mounts',
      clone >= 0,
      'layers are read through the mounts that everybody sees',
      clone < 0 ? errnoName(clone) : undefined,
    ),
  ];
}

const SYS_listxattrat = 465;

/** Scratch of this thread that the calls below do not use. */
const PATH_AT = 0x20000;
const NAME_AT = 0x21000;
const NAME_2_AT = 0x21100;
const BUFFER_AT = 0x22000;

function userNamespaces(): boolean {
  return spawnSync('unshare', ['-Urm', 'true'], { stdio: 'ignore' }).status === 0;
}

function hasProgram(name: string): boolean {
  return spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

// --- directories ---

const FS_NAMES = new Map<number, string>(
  Object.entries(MAGIC).map(([name, magic]) => [magic, name.toLowerCase()]),
);

/** Runs `use` with a descriptor of a directory. */
function openFolder(path: string, use: (fd: number) => number): number {
  const fd = openSync(path, O.RDONLY | O.DIRECTORY);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function directoryReport(directory: string): DirectoryReport {
  let folder: string;
  try {
    folder = mkdtempSync(join(directory, '.varve-doctor-'));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const detail = code ?? String(error);
    return {
      directory,
      filesystem: mountOf(directory, mountTable())?.type ?? 'unknown',
      features: [
        { name: 'writable', verdict: 'missing', detail, without: 'no upper can lie here' },
      ],
    };
  }
  try {
    const fd = openSync(folder, O.RDONLY | O.DIRECTORY);
    try {
      const name = filesystemOf(fd) ?? mountOf(folder)?.type ?? 'unknown';
      return { directory, filesystem: name, features: upperFeatures(fd, folder) };
    } finally {
      closeSync(fd);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function filesystemOf(fd: number): string | undefined {
  return fstatfs(fd, scratch + BUFFER_AT) < 0
    ? undefined
    : FS_NAMES.get(getU64(scratch + BUFFER_AT));
}

const FS_IOC_MEASURE_VERITY = 0xc0046686;

function upperFeatures(dir: number, folder: string): Feature[] {
  const name = (text: string, at = NAME_AT): number => {
    putBytes(scratch + at, text);
    return scratch + at;
  };
  const file = openSync(join(folder, 'a'), 'w+');
  writeSync(file, 'stone');
  const copy = openSync(join(folder, 'b'), 'w+');
  try {
    const trusted = attribute(dir, 'trusted');
    const user = attribute(dir, 'user');
    const full = privilege().full;
    const reflink = cloneFile(copy, file);
    const unnamed = openAt(dir, name('.'), O.TMPFILE | O.RDWR, 0o600);
    if (unnamed >= 0) close(unnamed);
    const whiteout = mknodAt(dir, name('w'), S.IFCHR, 0);
    const exchange = renameAt(dir, name('a'), dir, name('b', NAME_2_AT), RENAME.EXCHANGE);
    const white = renameAt(dir, name('a'), dir, name('c', NAME_2_AT), RENAME.WHITEOUT);
    const handle = nameToHandle(dir, emptyPath(), scratch + BUFFER_AT);
    const verity = ioctlAt(file, FS_IOC_MEASURE_VERITY, scratch + BUFFER_AT);
    const why = (r: number): string | undefined => (r < 0 ? errnoName(r) : undefined);
    const features: Feature[] = [
      {
        name: full ? 'trusted.* attributes' : 'user.* attributes',
        verdict: (full ? trusted : user) >= 0 ? 'yes' : 'missing',
        detail: why(full ? trusted : user),
        without: (full ? trusted : user) >= 0 ? undefined : 'no upper can lie here',
      },
      feature(
        'user.* attributes',
        user >= 0,
        'userxattr stacks cannot have their upper here',
        why(user),
      ),
      feature(
        'whiteout devices',
        whiteout >= 0,
        'whiteouts are made in attribute form',
        why(whiteout),
      ),
      feature('reflink', reflink >= 0, 'copy-up copies the data', why(reflink)),
      feature(
        'O_TMPFILE',
        unnamed >= 0,
        'unnamed files are staged in the work directory',
        why(unnamed),
      ),
      feature(
        'RENAME_EXCHANGE',
        exchange >= 0,
        'merged directories cannot be replaced in one step',
        why(exchange),
      ),
      feature('RENAME_WHITEOUT', white >= 0, 'a rename and its whiteout are two steps', why(white)),
      feature(
        'filesystem UUID',
        filesystemUuid(dir) !== undefined,
        "the kernel's overlayfs does not recognise hard links that varve copied up from here",
      ),
      feature('file handles', handle >= 0, 'hard links of lowers break on copy-up', why(handle)),
      feature(
        'fs-verity',
        verity >= 0 || verity === -E.NODATA,
        'digests are not checked by the kernel; varve compares objects itself',
        verity === -E.NODATA ? undefined : why(verity),
      ),
    ];
    return features.filter((f, i, all) => all.findIndex((other) => other.name === f.name) === i);
  } finally {
    closeSync(file);
    closeSync(copy);
  }
}

/** Sets and removes one attribute. @returns 0 or -errno. */
function attribute(dir: number, kind: string): number {
  putBytes(scratch + NAME_AT, `${kind}.overlay.varve-try`);
  putBytes(scratch + NAME_2_AT, '0');
  const r = setxattrAt(dir, emptyPath(), scratch + NAME_AT, scratch + NAME_2_AT, 1, 0);
  if (r >= 0) removexattrAt(dir, emptyPath(), scratch + NAME_AT);
  return r;
}
