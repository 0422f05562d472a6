// What went wrong, in words that say what to do: failed mounts, and the end of a server's log.
// Used by mount.ts; the client prints the message as it is.
// Follows: errors of mount(2) and fusermount3(1).

import { readFileSync } from 'node:fs';
import { E, SysError } from '../linux/errno.js';
import type { FuseMount } from '../linux/mount.js';
import type { Refusal, RefusalKind } from './protocol.js';

/** A refusal on its way to the client. */
export class RefusedError extends Error {
  readonly kind: RefusalKind;

  constructor(kind: RefusalKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Explains a failed mount(2) of a cover. */
export function coverRefusal(error: unknown, mountpoint: string): Refusal {
  const errno = error instanceof SysError ? error.errno : 0;
  if (errno === E.BUSY) {
    const message = `mount: ${mountpoint}: the upperdir or workdir is in use: unmount the other overlay`;
    return { kind: 'busy', message };
  }
  const said = error instanceof Error ? error.message : String(error);
  const refused = errno === E.PERM || errno === E.ACCES || errno === E.NODEV;
  return {
    kind: refused ? 'permission' : 'server',
    message: `mount: ${mountpoint}: the kernel's overlayfs refuses (${said}): dmesg has the reason; --mode=follow does without it`,
  };
}

/** Explains a failed mount(2) or fusermount3. */
export function mountRefusal(error: unknown, how: FuseMount): Refusal {
  const where = how.mountpoint;
  const code = (error as NodeJS.ErrnoException).code;
  const errno = error instanceof SysError ? error.errno : 0;
  const onDevice = error instanceof SysError && error.op === 'open';
  if (errno === E.NODEV || (onDevice && errno === E.NOENT)) {
    return {
      kind: 'permission',
      message: 'mount: /dev/fuse: this system has no FUSE: load the module fuse',
    };
  }
  if (onDevice && (errno === E.ACCES || errno === E.PERM)) {
    return {
      kind: 'permission',
      message: 'mount: /dev/fuse: this user may not open it: give it mode 0666, as udev does',
    };
  }
  if (error instanceof SysError && error.op === 'fusermount3' && errno === E.NOENT) {
    return {
      kind: 'permission',
      message: `mount: ${where}: not permitted here: install fusermount3 (package fuse3), run as root, or run inside "unshare -Urm"`,
    };
  }
  if (errno === E.NOENT || errno === E.NOTDIR || code === 'ENOENT' || code === 'ENOTDIR') {
    return { kind: 'layer', message: `mount point: ${where}: no such directory: create it first` };
  }
  if (!(error instanceof SysError)) {
    const said = error instanceof Error ? error.message : String(error);
    return { kind: 'server', message: `mount: ${where}: ${said}` };
  }
  const said = error.cause instanceof Error ? error.cause.message : '';
  const permission = error.errno === E.PERM || error.errno === E.ACCES;
  return {
    kind: permission ? 'permission' : 'server',
    message: said === '' ? `mount: ${where}: ${error.message}` : `mount: ${where}: ${said}`,
  };
}

/** The end of a server's log as `: text`, to be put behind a sentence. */
export function lastLines(log: string): string {
  try {
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-3);
    const text = lines
      .map((line) => line.trim())
      .filter((line) => line !== '')
      .join(' | ');
    return text === '' ? '' : `: ${text}`;
  } catch {
    return '';
  }
}
