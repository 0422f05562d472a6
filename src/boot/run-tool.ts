// Programs of the system that parts of boot/ rely on: found, run, and their failure as one line that names the Debian package.
// Used by everything in boot/ that needs veritysetup, openssl, objcopy, sbsign, mkfs.btrfs, qemu and the like.
// A program's own message is kept: its last line is what a person needs.

import { spawn } from 'node:child_process';
import { findProgram } from '../linux/find-program.js';
import { MountError } from '../stack/errors.js';

/** Program -> Debian package that has it. */
const PACKAGE: Readonly<Record<string, string>> = {
  busybox: 'busybox-static',
  dmsetup: 'dmsetup',
  veritysetup: 'cryptsetup-bin',
  openssl: 'openssl',
  objcopy: 'binutils',
  objdump: 'binutils',
  sbsign: 'sbsigntool',
  sbverify: 'sbsigntool',
  'mkfs.btrfs': 'btrfs-progs',
  blkid: 'util-linux',
  'qemu-system-x86_64': 'qemu-system-x86',
  'rsvg-convert': 'librsvg2-bin',
};

/** @returns the absolute path. @throws MountError of kind `permission` that says what to install. */
export function needProgram(name: string): string {
  const path = findProgram(name, {
    ...process.env,
    PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
  });
  if (path !== undefined) return path;
  throw new MountError('permission', `${name} is missing: install ${PACKAGE[name] ?? name}`);
}

export interface ToolOptions {
  /** For its standard input. */
  readonly input?: Uint8Array;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Exit codes besides 0 that are an answer and not a failure. */
  readonly expected?: readonly number[];
}

export interface ToolResult {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs a program to its end. @throws MountError of kind `layer` with the last line of what it complained. */
export async function runTool(
  name: string,
  args: readonly string[],
  options: ToolOptions = {},
): Promise<ToolResult> {
  const child = spawn(needProgram(name), args, {
    cwd: options.cwd,
    env: { ...(options.env ?? process.env), LC_ALL: 'C' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (piece: Buffer) => out.push(piece));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // A program that does not read its input is no error by itself.
  child.stdin.on('error', () => {});
  child.stdin.end(options.input);
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? (signal === null ? 1 : 128)));
  });
  if (code === 0 || options.expected?.includes(code))
    return { code, stdout: Buffer.concat(out), stderr };
  const said = stderr.trim().split('\n').at(-1) ?? '';
  throw new MountError('layer', `${name} ${args[0] ?? ''}: failed (${code}): ${said}`);
}
