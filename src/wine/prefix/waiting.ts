// Waits for the end of Wine in a prefix, and names who is still there.
// Used by stop.ts, and by standing.ts to tell whether a wineserver lives.
// Follows: wineserver(1) -w, create_server_dir() of Wine's server/request.c, /proc/locks of proc(5).

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import type { SessionRecord } from './layout.js';

/** How a wineserver is called, and for which prefix. */
export interface Served {
  readonly folder: string;
  readonly wineserver: string;
  readonly env: Readonly<Record<string, string>>;
}

export function servedBy(folder: string, session: SessionRecord): Served {
  return { folder, wineserver: session.wineserver, env: session.env };
}

/**
 * Waits until no wineserver serves the prefix.
 * @param patience milliseconds. @param late is called once, after a second.
 * @returns whether it has ended. @throws MountError when there is no such program.
 */
export function waitForWine(
  served: Served,
  patience: number,
  late: () => void = () => {},
): Promise<boolean> {
  return callServer(served, '-w', patience, late);
}

/** Ends every Windows program of the prefix. */
export async function killWine(served: Served): Promise<void> {
  await callServer(served, '-k', 60_000, () => {});
}

function callServer(
  { folder, wineserver, env }: Served,
  flag: string,
  patience: number,
  late: () => void,
): Promise<boolean> {
  return new Promise((done, failed) => {
    const child = spawn(wineserver, [flag], {
      stdio: 'ignore',
      cwd: '/',
      env: { ...process.env, ...env, WINEPREFIX: folder },
    });
    const remark = setTimeout(late, 1000);
    const over = setTimeout(() => child.kill('SIGKILL'), Math.min(patience, 2 ** 31 - 1));
    const end = (): void => {
      clearTimeout(remark);
      clearTimeout(over);
    };
    child.once('error', (error) => {
      end();
      const { code = '' } = error as NodeJS.ErrnoException;
      failed(
        new MountError('absent', `${wineserver}: cannot be run (${code}): is Wine installed?`),
      );
    });
    // 1: there was none.
    child.once('exit', (_, signal) => {
      end();
      done(signal === null);
    });
  });
}

/**
 * Whether a wineserver serves the prefix, as far as the table of locks tells: it holds one on a file named after st_dev and
 * st_ino of the prefix. Quick, but Wine builds that keep that file elsewhere are not seen.
 */
export function serverLives(folder: string): boolean {
  const name = serverName(folder);
  const own = process.geteuid?.() ?? 0;
  return [`/tmp/.wine-${own}`, debianFolder(folder)].some(
    (place) => place !== undefined && isLocked(join(place, name, 'lock')),
  );
}

/** The folder of a wineserver, by the prefix that it serves. */
export function serverName(folder: string): string {
  const { dev, ino } = statSync(folder);
  return `server-${dev.toString(16)}-${ino.toString(16)}`;
}

/** Debian's wineserver draws a name in /tmp and writes it down in the prefix. */
function debianFolder(folder: string): string | undefined {
  try {
    return join('/tmp', readFileSync(join(folder, 'wineserver'), 'utf8').trim());
  } catch {
    return undefined;
  }
}

function isLocked(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  return readFileSync('/proc/locks', 'latin1')
    .split('\n')
    .some((line) => line.includes(' WRITE ') && line.split(/\s+/)[5]?.endsWith(`:${stat.ino}`));
}

/** How many programs a message names. */
const NAMED = 5;

/** The Windows programs of a prefix, for a message: `explorer.exe (121), ping.exe (130)`; '' where none can be seen. */
export function programsOf(folder: string): string {
  return listed((pid) => {
    if (!/\.exe$/i.test(nameOf(pid))) return false;
    const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
    return environment.includes(`WINEPREFIX=${Buffer.from(folder).toString('latin1')}`);
  });
}

/** Who has something open below a folder, works in it or runs from it, for a message. */
export function usersOf(folder: string): string {
  const within = (path: string): boolean => path === folder || path.startsWith(`${folder}/`);
  return listed((pid) => {
    if (within(readlinkSync(`/proc/${pid}/cwd`))) return true;
    if (readFileSync(`/proc/${pid}/maps`, 'utf8').includes(` ${folder}/`)) return true;
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return within(readlinkSync(`/proc/${pid}/fd/${fd}`));
      } catch {
        return false;
      }
    });
  });
}

function listed(is: (pid: string) => boolean): string {
  const found: string[] = [];
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      if (is(pid)) found.push(`${nameOf(pid)} (${pid})`);
    } catch {
      // It has ended, or is not ours to look into.
    }
  }
  const more = found.length - NAMED;
  return `${found.slice(0, NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** The last part of what it was started as: a path of Windows or of this machine. */
function nameOf(pid: string): string {
  const [command = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  // A Windows program has its whole command line there.
  const program = /^([A-Za-z]:\\.*?\.exe)( |$)/i.exec(command)?.[1] ?? command;
  return program.trim().split(/[\\/]/).at(-1) ?? '';
}
