// Where a user's supervisor keeps its socket, lock and logs: a folder that only this user can enter.
// Used by client.ts (to find or start one) and supervisor.ts (to listen).
// There is one supervisor a user, user namespace and mount namespace: the socket's name carries both inode numbers.

import {
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';

/** A socket address holds 108 bytes with its NUL (unix(7)). */
const MAX_SOCKET_PATH = 107;

export interface RuntimePaths {
  readonly folder: string;
  readonly socket: string;
  readonly lock: string;
  /** Where the loader of lazy layers listens (supervisor/loader.ts). */
  readonly loaderSocket: string;
  /** What the supervisor itself prints. */
  readonly log: string;
  /** Made by a holder that cannot start the supervisor again; another installation writes there what it is to start (holder.ts). */
  readonly next: string;
  /** Log of the server with this process id. */
  serverLog(name: string): string;
}

function paths(folder: string, id: string): RuntimePaths {
  return {
    folder,
    socket: join(folder, `${id}.sock`),
    lock: join(folder, `${id}.lock`),
    loaderSocket: join(folder, `${id}.loader.sock`),
    log: join(folder, `${id}.log`),
    next: join(folder, `${id}.next`),
    serverLog: (name) => join(folder, `${id}.${name}.log`),
  };
}

/** `4026531837-4026531841`: inode numbers of the user and mount namespaces. */
export function namespaceId(): string {
  const inode = (name: string): string => {
    try {
      return /\[(\d+)\]/.exec(readlinkSync(`/proc/self/ns/${name}`))?.[1] ?? '0';
    } catch {
      return '0';
    }
  };
  return `${inode('user')}-${inode('mnt')}`;
}

/** This user's id outside of the user namespace: /tmp is shared with the outside. */
function outerUid(euid: number): number {
  try {
    for (const line of readFileSync('/proc/self/uid_map', 'latin1').trim().split('\n')) {
      const [inside, outside, count] = line.trim().split(/\s+/).map(Number) as [
        number,
        number,
        number,
      ];
      if (euid >= inside && euid < inside + count) return outside + (euid - inside);
    }
  } catch {
    // No user namespaces in this kernel.
  }
  return euid;
}

/** Folders to try, best first. VARVE_RUNTIME_DIR, when set, is the only one. */
export function candidateFolders(env: NodeJS.ProcessEnv, euid: number): string[] {
  const own = env['VARVE_RUNTIME_DIR'];
  if (own !== undefined && own !== '') return [own];
  const folders: string[] = [];
  if (euid === 0) folders.push('/run/varve');
  const xdg = env['XDG_RUNTIME_DIR'];
  if (xdg?.startsWith('/') === true) folders.push(join(xdg, 'varve'));
  folders.push(`/tmp/varve-${outerUid(euid)}`);
  return folders;
}

/** @returns what is wrong with a folder: it must be ours alone. undefined: nothing. */
export function folderFault(folder: string, euid: number): string | undefined {
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  if (stat === undefined) return 'it does not exist';
  if (!stat.isDirectory()) return 'it is not a directory';
  if (stat.uid !== euid) return `it belongs to user ${stat.uid}`;
  if ((stat.mode & 0o077) !== 0) return 'others may enter it: chmod 700';
  return undefined;
}

/** Every folder in which this user's supervisor may already listen. */
export function existingRuntimes(env: NodeJS.ProcessEnv, euid: number): RuntimePaths[] {
  const id = namespaceId();
  return candidateFolders(env, euid)
    .filter((folder) => {
      try {
        return folderFault(folder, euid) === undefined;
      } catch {
        return false;
      }
    })
    .map((folder) => paths(folder, id));
}

/**
 * The folder of a new supervisor; it is made when missing.
 * @throws Error that names every folder tried and what is wrong with it.
 */
export function makeRuntime(env: NodeJS.ProcessEnv, euid: number): RuntimePaths {
  const id = namespaceId();
  const faults: string[] = [];
  for (const folder of candidateFolders(env, euid)) {
    const found = paths(folder, id);
    if (Buffer.byteLength(found.loaderSocket) > MAX_SOCKET_PATH) {
      faults.push(`${folder}: the path is too long for a socket`);
      continue;
    }
    try {
      mkdirSync(folder, { mode: 0o700 });
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'EEXIST') {
        faults.push(`${folder}: ${code ?? String(error)}`);
        continue;
      }
    }
    const fault = folderFault(folder, euid);
    if (fault === undefined) return found;
    faults.push(`${folder}: ${fault}`);
  }
  throw new Error(`no folder for the control socket: ${faults.join('; ')}: set VARVE_RUNTIME_DIR`);
}

/** The paths of a folder that was chosen already. */
export function runtimeIn(folder: string): RuntimePaths {
  return paths(folder, namespaceId());
}

/** A server's log; where its folder was removed it goes nowhere: a supervisor that ends for that would take more with it. */
export function openLog(path: string): number {
  try {
    return openSync(path, 'a', 0o600);
  } catch {
    return openSync('/dev/null', 'a');
  }
}

/** Milliseconds after which a log of servers whose supervisor was killed is of no use. */
const OLD = 10 * 60_000;

/** Removes logs that a killed supervisor of these namespaces left behind; for its successor, which holds the lock. */
export function dropOldLogs(runtime: RuntimePaths, now = Date.now()): void {
  const first = runtime.serverLog('');
  const prefix = first.slice(runtime.folder.length + 1, -'.log'.length);
  for (const name of readdirSync(runtime.folder)) {
    if (!name.startsWith(prefix) || !name.endsWith('.log')) continue;
    const path = join(runtime.folder, name);
    if (path === runtime.log) continue;
    const { mtimeMs } = lstatSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: now };
    if (now - mtimeMs > OLD) rmSync(path, { force: true });
  }
}
