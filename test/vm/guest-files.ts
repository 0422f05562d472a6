// What a system inside a virtual machine is made of: busybox with its commands, shared libraries of programs, and a program run outside.
// Used by oldkernel/ and boot/.

import { spawnSync } from 'node:child_process';
import { copyFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

/** The static one of busybox-static. */
export const busybox = '/bin/busybox';

export function installBusybox(folder: string): void {
  copyFileSync(busybox, join(folder, 'busybox'));
  for (const applet of run(busybox, ['--list']).trim().split('\n')) {
    if (applet !== 'busybox') symlinkSync('busybox', join(folder, applet));
  }
}

/** Shared libraries of a program, the loader included. */
export function libraries(program: string): string[] {
  const listed = run('ldd', [program]);
  return [...listed.matchAll(/(?:=>\s*|^\s+)(\/\S+)/gm)].map(([, path]) => path);
}

/** @returns what it printed. @throws Error when it fails, or is not done after so many seconds. */
export function run(command: string, args: readonly string[], seconds = 60): string {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: seconds * 1000 });
  if (result.status === 0) return result.stdout;
  throw new Error(`${command} ${args.join(' ')}: ${result.error?.message ?? result.stderr}`);
}
