// What a person types as an installer, as Wine wants it: an .msi is msiexec's, a .bat is cmd's.
// Used where an installer is recorded; text in, words out.
// Follows: msiexec /i PACKAGE, cmd /c FILE; Z: is the root directory of the host.

import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';

/** @param command what stands behind `--`. @param cwd where relative paths begin. */
export function windowsCommand(command: readonly string[], cwd = process.cwd()): string[] {
  const [first = '', ...rest] = command;
  // As a person types it who is used to Wine; a program of that name would start a second Wine.
  if ((first === 'wine' || first === 'wine64') && rest.length > 0) return windowsCommand(rest, cwd);
  const kind = /\.(\w+)$/.exec(first)?.[1]?.toLowerCase();
  if (kind === 'msi') return ['msiexec', '/i', hostPath(first, cwd), ...rest];
  if (kind === 'msp') return ['msiexec', '/p', hostPath(first, cwd), ...rest];
  if (kind === 'bat' || kind === 'cmd') return ['cmd', '/c', hostPath(first, cwd), ...rest];
  if (kind === 'reg') return ['regedit', '/S', hostPath(first, cwd), ...rest];
  // `setup.exe` in the working directory: Wine looks on the PATH of Windows for a bare name.
  if (!isAbsolute(first) && existsSync(resolve(cwd, first))) return [resolve(cwd, first), ...rest];
  return [...command];
}

/** A file of the host; what is none is left alone, it may be a path of Windows. */
function hostPath(path: string, cwd: string): string {
  const host = resolve(cwd, path);
  return existsSync(host) ? `Z:${host.replaceAll('/', '\\')}` : path;
}
