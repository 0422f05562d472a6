// Where the benchmark runs: a filesystem (tmpfs, ext4, xfs) and a privilege (root, or a plain uid in its own user namespace).
// Called by main.ts, which starts one runner.ts in each; the kernel cleans up when the runner's namespaces end.
// Follows: unshare(1), setpriv(1), mount_namespaces(7), pid_namespaces(7), user_namespaces(7).

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';

export type Fs = 'tmpfs' | 'ext4' | 'xfs';
export type Privilege = 'root' | 'rootless';

export interface Environment {
  readonly fs: Fs;
  readonly privilege: Privilege;
}

/** A command that starts a runner, and the folder on the wanted filesystem that it will find. */
export interface Place {
  readonly command: readonly string[];
  readonly dir: string;
}

const EXT4_MAGIC = 0xef53;
/** Address space of a loop image in bytes; sparse, so only what a case writes takes room. */
const IMAGE_SIZE = 12 * 1024 ** 3;

const amRoot = process.getuid?.() === 0;

// Everything a mount starts dies with the pid namespace; /proc shows that namespace only.
const NAMESPACES = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
// pid 1 has to reap daemons, which a shell that waits does and Node does not: so no exec.
const INIT = ['sh', '-c', '"$@"; exit $?', 'init'];

/**
 * Prepares a place for `environment` under `scratch`.
 * @param uid the plain user of rootless runs when this process is root.
 * @returns the place, or why there cannot be one.
 */
export function preparePlace(
  environment: Environment,
  scratch: string,
  uid: number,
  readable: readonly string[],
): Place | string {
  const { fs, privilege } = environment;
  const plain = privilege === 'rootless';
  if (!amRoot && !plain) return 'needs root';
  const dir = `${scratch}/${fs}-${privilege}`;
  mkdirSync(dir, { recursive: true });

  // Servers of root keep their sockets and logs under /run, which is the machine's: here it is this run's.
  const script = amRoot ? ['mount -t tmpfs -o mode=755 tmpfs /run'] : [];
  if (fs === 'xfs' || (fs === 'ext4' && statfsSync(scratch).type !== EXT4_MAGIC)) {
    if (!amRoot) return `needs root to mount a loop image of ${fs}`;
    const image = `${scratch}/${fs}.img`;
    const problem = makeImage(image, fs);
    if (problem !== undefined) return problem;
    script.push(`mount -o loop '${image}' '${dir}'`, `chmod 755 '${dir}'`);
    if (plain) script.push(`chown ${uid}:${uid} '${dir}'`);
  }
  if (!plain) {
    script.push(`exec unshare ${NAMESPACES.join(' ')} --propagation private -- "$@"`);
    return { dir, command: outer(script) };
  }

  const userNamespace = `unshare --map-root-user --user ${NAMESPACES.join(' ')} -- "$@"`;
  if (!amRoot) return { dir, command: outer([`exec ${userNamespace}`], false) };
  const closed = readable.find((path) => !readableByOthers(path));
  if (closed !== undefined) return `uid ${uid} cannot read ${closed}`;
  chownSync(dir, uid, uid);
  if ((statSync('/dev/fuse').mode & 0o006) !== 0o006) {
    // Distributions ship /dev/fuse as 0666; where it is not, this namespace gets a node of its own that is.
    const node = `${scratch}/fuse`;
    script.push(`[ -e '${node}' ] || mknod -m 666 '${node}' c 10 229`);
    script.push(`mount --bind '${node}' /dev/fuse`);
  }
  script.push(`exec setpriv --reuid=${uid} --regid=${uid} --clear-groups ${userNamespace}`);
  return { dir, command: outer(script) };
}

/** A shell in a private mount namespace that runs `script`; the runner's command follows as arguments. */
function outer(script: readonly string[], withNamespace = true): string[] {
  const shell = ['sh', '-ec', script.join('\n'), 'place', ...INIT];
  return withNamespace ? ['unshare', '--mount', '--propagation', 'private', ...shell] : shell;
}

/** Makes a sparse image with a filesystem. @returns why not, or undefined. */
function makeImage(path: string, fs: 'ext4' | 'xfs'): string | undefined {
  const fd = openSync(path, 'w', 0o600);
  ftruncateSync(fd, IMAGE_SIZE);
  closeSync(fd);
  const command = fs === 'xfs' ? ['mkfs.xfs', '-q', '-m', 'reflink=1'] : ['mkfs.ext4', '-q', '-F'];
  const made = spawnSync(command[0], [...command.slice(1), path], { encoding: 'utf8' });
  return made.status === 0 ? undefined : `${command[0]} failed: ${made.error ?? made.stderr}`;
}

/** Whether anybody may pass every folder above `path` and read `path` itself. */
function readableByOthers(path: string): boolean {
  if ((statSync(path).mode & 0o004) === 0) return false;
  for (let at = dirname(path); ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === '/') return true;
  }
}

/** Lets any uid pass the scratch folder, which mkdtemp makes 0700. */
export function openScratch(scratch: string): void {
  chmodSync(scratch, 0o755);
}
