// What a sandbox has of /proc and /sys: processes of its own, and of the machine's settings a view that cannot be written.
// Called by enter.ts once the covers stand; the process is in its PID namespace already.
// Follows: proc(5), sysfs(5); root of a user namespace is still the owner of the files of /proc/sys for the kernel.

import { closeSync, openSync, readdirSync, statSync } from 'node:fs';
import { MS, O } from '../linux/constants.js';
import { errnoName } from '../linux/errno.js';
import { mount } from '../linux/mount.js';
import { CoverError, type NewRoot } from './new-root.js';

/** Show memory, keys and timers of everybody. */
const SECRET = ['kcore', 'keys', 'timer_list'];

/** @param owned the user inside owns files of /proc and /sys: root. @throws CoverError where the kernel allows no /proc. */
export function showKernelFiles(root: NewRoot, owned: boolean): void {
  root.makeDirectory('/proc');
  const target = root.open('/proc', O.DIRECTORY);
  const flags = MS.NOSUID | MS.NODEV | MS.NOEXEC;
  const r = target < 0 ? target : mount('proc', `/proc/self/fd/${target}`, 'proc', flags, '');
  if (r < 0) {
    throw new CoverError(
      `/proc: the kernel gives no new one (${errnoName(r)}): in a container whose /proc is masked no further sandbox can be made; run the container with it unmasked`,
    );
  }
  closeSync(target);
  if (owned) lockProc(root);
  showSys(root);
}

/** What is not a process, and can be written, cannot any more. */
function lockProc(root: NewRoot): void {
  const fd = root.open('/proc');
  const folder = `/proc/self/fd/${fd}`;
  const none = openSync('/dev/null', O.PATH);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (/^\d+$/.test(entry.name) || entry.isSymbolicLink()) continue;
    const place = `/proc/${entry.name}`;
    if (SECRET.includes(entry.name)) root.bindFd(none, place, { readOnly: true }, true);
    else if (entry.isDirectory() || isWritable(`${folder}/${entry.name}`)) {
      const self = root.open(place);
      const r = self < 0 ? self : root.bindFd(self, place, { readOnly: true });
      if (self >= 0) closeSync(self);
      if (r < 0) throw new CoverError(`${place}: cannot be made read-only (${errnoName(r)})`);
    }
  }
  closeSync(none);
  closeSync(fd);
}

function isWritable(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && (stat.mode & 0o222) !== 0;
}

function showSys(root: NewRoot): void {
  root.makeDirectory('/sys');
  let real: number;
  try {
    real = openSync('/sys', O.PATH | O.DIRECTORY);
  } catch {
    return;
  }
  const r = root.bindFd(real, '/sys', { readOnly: true });
  closeSync(real);
  if (r < 0) throw new CoverError(`/sys: cannot be shown read-only (${errnoName(r)})`);
}
