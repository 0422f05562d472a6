// What a sandbox has in /dev: the devices that hold nothing, terminals and shared memory of its own; or those of the machine.
// Called by enter.ts once the covers stand.
// Follows: devpts (Documentation/filesystems/devpts.rst), mq_overview(7), shm_overview(7).

import { closeSync, mkdirSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { MS, O } from '../linux/constants.js';
import { errnoName } from '../linux/errno.js';
import { mount } from '../linux/mount.js';
import { CoverError, mountOver, type NewRoot } from './new-root.js';

const MINIMAL = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];

const LINKS: readonly (readonly [string, string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['ptmx', 'pts/ptmx'],
];

/** @throws CoverError, SysError. */
export function showDevices(root: NewRoot, which: 'minimal' | 'host'): void {
  root.makeDirectory('/dev');
  if (which === 'host') showAll(root);
  else showMinimal(root);
}

function showAll(root: NewRoot): void {
  const real = openSync('/dev', O.PATH | O.DIRECTORY);
  const r = root.bindFd(real, '/dev', { readOnly: true }, true);
  closeSync(real);
  if (r < 0) throw new CoverError(`/dev: cannot be shown (${errnoName(r)})`);
  // Segments of others are no device.
  root.tmpfs('/dev/shm', 'mode=1777');
}

function showMinimal(root: NewRoot): void {
  if (!root.tmpfs('/dev', 'mode=755')) throw new CoverError('/dev: there is no such directory');
  const dev = root.open('/dev');
  const at = (name: string): string => `/proc/self/fd/${dev}/${name}`;
  for (const name of MINIMAL) {
    writeFileSync(at(name), '');
    const real = openSync(`/dev/${name}`, O.PATH);
    const r = root.bindFd(real, `/dev/${name}`, {}, true);
    closeSync(real);
    if (r < 0) throw new CoverError(`/dev/${name}: cannot be shown (${errnoName(r)})`);
  }
  for (const [name, target] of LINKS) symlinkSync(target, at(name));
  for (const name of ['pts', 'shm', 'mqueue']) mkdirSync(at(name), 0o755);
  root.tmpfs('/dev/shm', 'mode=1777');
  const pts = root.open('/dev/pts');
  mountTerminals(pts);
  const queues = root.open('/dev/mqueue');
  mountOver(queues, 'mqueue', '', MS.NOEXEC);
  closeSync(dev);
  root.lock('/dev', {}, true);
}

/** Group 5 is tty, where it has a number here. */
function mountTerminals(fd: number): void {
  const flags = MS.NOSUID | MS.NOEXEC;
  const data = 'newinstance,ptmxmode=0666,mode=620';
  const place = `/proc/self/fd/${fd}`;
  let r = mount('devpts', place, 'devpts', flags, `${data},gid=5`);
  if (r < 0) r = mount('devpts', place, 'devpts', flags, data);
  closeSync(fd);
  if (r < 0) throw new CoverError(`/dev/pts: ${errnoName(r)}`);
}
