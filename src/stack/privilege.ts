// What this process may do, as one record: effective user, mounting, and privilege in the initial user namespace.
// Read by stack/plan.ts (which backend), stack/mount.ts (which attributes) and `varve doctor`.
// Follows capabilities(7), user_namespaces(7). Unlike linux/process.ts it loads no FFI: every mount waits for it.

import { readFileSync } from 'node:fs';

const CAP_SYS_ADMIN = 21n;

export interface Privilege {
  readonly euid: number;
  /** CAP_SYS_ADMIN in the current user namespace: mount(2) works. */
  readonly mayMount: boolean;
  /** The user namespace is the initial one. */
  readonly initialNamespace: boolean;
  /** CAP_SYS_ADMIN in the initial user namespace: trusted.* attributes, passthrough. */
  readonly full: boolean;
}

/** @param proc folder of the process in /proc, a parameter for tests. */
export function privilege(proc = '/proc/self'): Privilege {
  const status = readFileSync(`${proc}/status`, 'latin1');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const mayMount = ((effective >> CAP_SYS_ADMIN) & 1n) === 1n;
  const euid = Number(/^Uid:\s*\d+\s+(\d+)/m.exec(status)?.[1] ?? 0);
  let initialNamespace = true;
  try {
    // The initial namespace maps every id to itself.
    const map = readFileSync(`${proc}/uid_map`, 'latin1');
    initialNamespace = /^\s*0\s+0\s+4294967295\s*$/.test(map);
  } catch {
    // A kernel without user namespaces has no other one.
  }
  return { euid, mayMount, initialNamespace, full: mayMount && initialNamespace };
}
