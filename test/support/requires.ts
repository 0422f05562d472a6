// What a test needs of the machine, as one call that gives the reason to skip it, or false.
// Read by tests as `{ skip: requires({ root: true, packages: ['xfsprogs'] }) }`; test/run.ts prints the reasons.
// Debian packages come from test/packages.txt, which .ci/run installs, so in CI nothing is skipped.

import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Needs {
  /** Runs as root of the initial user namespace. */
  root?: boolean;
  /** Debian packages, all of them named in test/packages.txt. */
  packages?: readonly string[];
  /** Programs on PATH, for what is not a package of its own. */
  commands?: readonly string[];
  features?: readonly Feature[];
}

export type Feature = keyof typeof probes;

/** How each feature is recognised: true when the machine has it. Each is asked once a process. */
const probes = {
  /** A FUSE mount is possible for this user: root by mount(2), others by fusermount3. */
  fuse: () => opensReadWrite('/dev/fuse') && (isRoot() || hasCommand('fusermount3')),
  /** fusectl is mounted, so a hung connection can be aborted. */
  fusectl: () => readText('/proc/self/mountinfo').includes(' - fusectl '),
  /** A FUSE file may be backed by another one (6.9 and newer, CAP_SYS_ADMIN). */
  passthrough: () => isRoot() && kernelAtLeast(6, 9),
  /** The kernel resends requests that a dead server had taken (6.9 and newer). */
  resend: () => kernelAtLeast(6, 9),
  /** A process can be kept from abstract sockets of others (Landlock of 6.12 and newer). */
  'socket-scope': () => kernelAtLeast(6, 12),
  /** A plain user may make a user and mount namespace. */
  userns: () => succeeds('unshare', ['--user', '--map-root-user', '--mount', 'true']),
  /** This process can run a program as another, plain user. */
  'plain-user': () => isRoot() && hasCommand('setpriv'),
  /** A file can be mounted through a loop device. */
  loop: () => isRoot() && succeeds('losetup', ['--find']),
  /** Root may have readers of a file wait by fanotify (6.14 and newer). */
  'pre-content': () => isRoot() && kernelAtLeast(6, 14),
  overlayfs: () => knowsFilesystem('overlay'),
  erofs: () => knowsFilesystem('erofs'),
  ext4: () => knowsFilesystem('ext4'),
  xfs: () => knowsFilesystem('xfs'),
  btrfs: () => knowsFilesystem('btrfs'),
  squashfs: () => knowsFilesystem('squashfs'),
  tmpfs: () => knowsFilesystem('tmpfs'),
} as const satisfies Record<string, () => boolean>;

/**
 * @returns false when the machine has everything, else why not: the value for node:test's `skip`.
 * @throws Error when a package is not in test/packages.txt: CI would never have it.
 */
export function requires(needs: Needs): string | false {
  for (const name of needs.packages ?? []) {
    if (!listedPackages().has(name)) throw new Error(`add ${name} to test/packages.txt`);
  }
  if (needs.root && !isRoot()) return 'needs root';
  const feature = needs.features?.find((name) => !hasFeature(name));
  if (feature !== undefined) return `needs the feature ${feature}`;
  const command = needs.commands?.find((name) => !hasCommand(name));
  if (command !== undefined) return `needs the program ${command}`;
  const missing = needs.packages?.filter((name) => !hasPackage(name)) ?? [];
  if (missing.length > 0) return `needs apt-get install ${missing.join(' ')}`;
  return false;
}

/** True as root of the initial user namespace; the root of a container's own namespace is not it. */
export function isRoot(): boolean {
  return (
    process.getuid?.() === 0 && /^\s*0\s+0\s+4294967295\s*$/.test(readText('/proc/self/uid_map'))
  );
}

const known = new Map<string, boolean>();

function once(key: string, ask: () => boolean): boolean {
  let answer = known.get(key);
  if (answer === undefined) known.set(key, (answer = ask()));
  return answer;
}

function hasFeature(name: Feature): boolean {
  return once(`feature ${name}`, probes[name]);
}

function hasCommand(name: string): boolean {
  return once(`command ${name}`, () => {
    // /usr/sbin holds mkfs and losetup, and a plain user's PATH often lacks it.
    const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    return path.split(':').some((folder) => executable(`${folder}/${name}`));
  });
}

function hasPackage(name: string): boolean {
  return once(`package ${name}`, () => {
    const query = spawnSync('dpkg-query', ['-W', '-f=${db:Status-Status}', name], {
      encoding: 'utf8',
    });
    return query.stdout === 'installed';
  });
}

let listed: Set<string> | undefined;

function listedPackages(): Set<string> {
  if (listed === undefined) {
    // From dist/test/support/ to the repository.
    const file = fileURLToPath(new URL('../../../test/packages.txt', import.meta.url));
    const lines = readFileSync(file, 'utf8').split('\n');
    listed = new Set(lines.filter((line) => line !== '' && !line.startsWith('#')));
  }
  return listed;
}

function knowsFilesystem(name: string): boolean {
  return readText('/proc/filesystems')
    .split('\n')
    .some((line) => line.endsWith(`\t${name}`));
}

function kernelAtLeast(major: number, minor: number): boolean {
  const [a = 0, b = 0] = readText('/proc/sys/kernel/osrelease').split('.').map(Number.parseFloat);
  return a > major || (a === major && b >= minor);
}

function succeeds(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 60_000 }).status === 0;
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function opensReadWrite(path: string): boolean {
  try {
    closeSync(openSync(path, 'r+'));
    return true;
  } catch {
    return false;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
