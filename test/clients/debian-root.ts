// A Debian root made of this machine's own packages: what debootstrap --variant=minbase would lay out,
// without a download. Real owners, modes, hard links, links and databases; chroot into it works.
// Used by debian.test.ts as a lower layer.

import { lstatSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { shell } from './shell.js';

const statusFile = '/var/lib/dpkg/status';

/** Paragraphs of dpkg's status file by package name. */
function readStatus(): Map<string, string> {
  const found = new Map<string, string>();
  for (const paragraph of readFileSync(statusFile, 'utf8').split('\n\n')) {
    const name = field(paragraph, 'Package');
    if (name !== '' && field(paragraph, 'Status').endsWith(' installed')) {
      found.set(name, paragraph);
    }
  }
  return found;
}

function field(paragraph: string, name: string): string {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? '';
}

/** The essential packages and all they depend on, as far as they are installed. */
function closure(status: ReadonlyMap<string, string>, more: readonly string[]): string[] {
  const wanted = [...more];
  for (const [name, paragraph] of status) {
    if (field(paragraph, 'Essential') === 'yes') wanted.push(name);
  }
  const taken = new Set<string>();
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const paragraph = status.get(name);
    if (paragraph === undefined || taken.has(name)) continue;
    taken.add(name);
    const needs = `${field(paragraph, 'Pre-Depends')}, ${field(paragraph, 'Depends')}`;
    for (const need of needs.split(/[,|]/)) {
      const other = /^\s*([a-z0-9][a-z0-9+.-]+)/.exec(need)?.[1];
      if (other !== undefined) wanted.push(other);
    }
  }
  return [...taken].sort();
}

/** Folders whose times change while they are read, for others work on this machine; made anew. */
const CHANGING: ReadonlySet<string> = new Set(['/proc', '/sys', '/dev', '/tmp', '/var/tmp']);

/** What belongs to these packages, as paths that go through no link; relative to /. */
function filesOf(names: readonly string[]): string[] {
  const listed = shell(
    `dpkg-query -L $NAMES
     for name in $NAMES; do ls -d /var/lib/dpkg/info/$name.* /var/lib/dpkg/info/$name:* || true; done
     find /etc/alternatives /var/lib/dpkg/alternatives /var/lib/dpkg/info/format /etc/pam.d /etc/ld.so.*`,
    { env: { NAMES: names.join(' ') } },
  );
  const found = new Set<string>(['bin', 'sbin', 'lib', 'lib64']);
  for (const line of listed.split('\n')) {
    // Diversions are told in sentences; a machine may have been stripped of documentation.
    if (!line.startsWith('/') || lstatSync(line, { throwIfNoEntry: false }) === undefined) continue;
    // A merged /usr: packages still name /bin and /lib.
    const path = join(realpathSync(dirname(line)), basename(line));
    if (path !== '/' && !CHANGING.has(path)) found.add(path.slice(1));
  }
  return [...found].filter((path) => existsAtRoot(path)).sort();
}

function existsAtRoot(path: string): boolean {
  return lstatSync(join('/', path), { throwIfNoEntry: false }) !== undefined;
}

/**
 * Fills `root`, which is made.
 *
 * @param more packages beside the essential ones
 */
export function makeDebianRoot(root: string, more: readonly string[]): void {
  const status = readStatus();
  const names = closure(status, more);
  mkdirSync(root);
  shell(
    `tar -C / -c --no-recursion --xattrs --acls --null -T - |
       tar -C "$ROOT" -x -p --xattrs --xattrs-include='*' --acls
     cd "$ROOT"
     mkdir -p proc sys dev root srv tmp var/tmp var/lib/dpkg/updates var/lib/dpkg/triggers
     chmod 1777 tmp var/tmp
     mknod -m 666 dev/null c 1 3
     mknod -m 666 dev/zero c 1 5
     mknod -m 444 dev/urandom c 1 9
     cp usr/share/base-passwd/passwd.master etc/passwd
     cp usr/share/base-passwd/group.master etc/group
     touch var/lib/dpkg/available
     chroot . ldconfig`,
    { env: { ROOT: root }, input: filesOf(names).join('\0'), cwd: '/' },
  );
  const paragraphs = names.map((name) => status.get(name) as string);
  writeFileSync(join(root, 'var/lib/dpkg/status'), `${paragraphs.join('\n\n')}\n`);
}
