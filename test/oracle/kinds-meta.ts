// Operations on what a file says about itself: mode, owner, times, extended attributes, ACLs.
// One entry a kind, by name and by descriptor; op.ts says what an entry is.
// Follows: the man-pages of the calls; acl(5) in the form of include/uapi/linux/posix_acl_xattr.h.

import { AT, show, sys } from '../support/sys.js';
import { capability } from './layers.js';
import type { Choices, Kind } from './op.js';
import { showBytes } from './tree.js';

/** Names in all namespaces; some are the overlay's own and must be kept apart. */
const keys = [
  ...['user.one', 'user.one', 'user.two', 'user.\xff', 'trusted.three', 'security.other'],
  ...['trusted.overlay.opaque', 'user.overlay.opaque', 'nothing', `user.${'k'.repeat(250)}`],
] as const;

const values = ['', 'x', 'value', 'y', 'v'.repeat(300)] as const;

/** One entry of an ACL: tag, permissions, id. */
type AclEntry = readonly [tag: number, perm: number, id: number];
const none = 0xffff_ffff;
const acls: readonly (readonly AclEntry[])[] = [
  [
    [1, 7, none],
    [2, 5, 1000],
    [4, 4, none],
    [0x10, 5, none],
    [0x20, 0, none],
  ],
  [
    [1, 6, none],
    [4, 6, none],
    [8, 7, 1001],
    [0x10, 7, none],
    [0x20, 4, none],
  ],
  // No more than a mode: stored as one.
  [
    [1, 6, none],
    [4, 4, none],
    [0x20, 4, none],
  ],
  // No mask beside a named user: refused.
  [
    [1, 6, none],
    [2, 7, 1000],
    [4, 4, none],
    [0x20, 4, none],
  ],
];

function aclValue(entries: readonly AclEntry[]): string {
  const buffer = Buffer.alloc(4 + entries.length * 8);
  buffer.writeUInt32LE(2, 0);
  entries.forEach(([tag, perm, id], i) => {
    buffer.writeUInt16LE(tag, 4 + i * 8);
    buffer.writeUInt16LE(perm, 6 + i * 8);
    buffer.writeUInt32LE(id, 8 + i * 8);
  });
  return buffer.toString('latin1');
}

const aclValues = acls.map(aclValue);
const bytes = (text: string) => Buffer.from(text, 'latin1');

function setAcl(weight: number, key: string, types: string): Kind {
  return {
    weight,
    make: (c) => ({ path: c.existing(types), value: c.random.pick(aclValues) }),
    run: (w, a) => show(sys.setxattr(w.root, a.path, key, bytes(a.value))),
  };
}

const key = (c: Choices) => c.random.pick(keys);

/** Unset, must be new, must exist. */
const xattrFlags = [0, 0, 0, 1, 2] as const;

export const metaKinds: Record<string, Kind> = {
  chmod: {
    weight: 20,
    make: (c) => ({ path: c.any(), mode: c.mode() }),
    run: (w, a) => show(sys.chmod(w.root, a.path, a.mode)),
  },
  fchmod: {
    weight: 8,
    make: (c) => ({ slot: c.slot(), mode: c.mode() }),
    run: (w, a) => show(sys.fchmod(w.fd(a.slot), a.mode)),
  },
  chown: {
    weight: 12,
    make: (c) => ({ path: c.any(), ...c.owner() }),
    run: (w, a) => show(sys.chown(w.root, a.path, a.uid, a.gid)),
  },
  lchown: {
    weight: 6,
    make: (c) => ({ path: c.existing('llldfo'), ...c.owner() }),
    run: (w, a) => show(sys.chown(w.root, a.path, a.uid, a.gid, AT.SYMLINK_NOFOLLOW)),
  },
  fchown: {
    weight: 6,
    make: (c) => ({ slot: c.slot(), ...c.owner() }),
    run: (w, a) => show(sys.chown(w.fd(a.slot), '', a.uid, a.gid)),
  },
  utimens: {
    weight: 12,
    make: (c) => ({ path: c.any(), times: c.times() }),
    run: (w, a) => show(sys.utimens(w.root, a.path, a.times)),
  },
  lutimens: {
    weight: 5,
    make: (c) => ({ path: c.existing('l'), times: c.times() }),
    run: (w, a) => show(sys.utimens(w.root, a.path, a.times, AT.SYMLINK_NOFOLLOW)),
  },
  futimens: {
    weight: 5,
    make: (c) => ({ slot: c.slot(), times: c.times() }),
    run: (w, a) => show(sys.utimens(w.fd(a.slot), '', a.times)),
  },
  truncate: {
    weight: 12,
    make: (c) => ({ path: c.existing('fffld'), size: c.size() }),
    run: (w, a) => show(sys.truncate(w.root, a.path, a.size)),
  },
  setxattr: {
    weight: 15,
    make: (c) => ({
      path: c.any(),
      key: key(c),
      value: c.random.pick(values),
      flags: c.random.pick(xattrFlags),
    }),
    run: (w, a) => show(sys.setxattr(w.root, a.path, a.key, bytes(a.value), a.flags)),
  },
  fsetxattr: {
    weight: 5,
    make: (c) => ({
      slot: c.slot(),
      key: key(c),
      value: c.random.pick(values),
      flags: c.random.pick(xattrFlags),
    }),
    run: (w, a) => show(sys.fsetxattr(w.fd(a.slot), a.key, bytes(a.value), a.flags)),
  },
  getxattr: {
    weight: 10,
    make: (c) => ({ path: c.any(), key: key(c) }),
    run: (w, a) => showBytes(sys.getxattr(w.root, a.path, a.key)),
  },
  fgetxattr: {
    weight: 3,
    make: (c) => ({ slot: c.slot(), key: key(c) }),
    run: (w, a) => showBytes(sys.fgetxattr(w.fd(a.slot), a.key)),
  },
  listxattr: {
    weight: 10,
    make: (c) => ({ path: c.any() }),
    run: (w, a) => showNames(sys.listxattr(w.root, a.path)),
  },
  flistxattr: {
    weight: 3,
    make: (c) => ({ slot: c.slot() }),
    run: (w, a) => showNames(sys.flistxattr(w.fd(a.slot))),
  },
  removexattr: {
    weight: 10,
    make: (c) => ({ path: c.any(), key: key(c) }),
    run: (w, a) => show(sys.removexattr(w.root, a.path, a.key)),
  },
  fremovexattr: {
    weight: 3,
    make: (c) => ({ slot: c.slot(), key: key(c) }),
    run: (w, a) => show(sys.fremovexattr(w.fd(a.slot), a.key)),
  },
  'set-capability': {
    weight: 5,
    make: (c) => ({ path: c.existing('f'), value: c.random.pick([capability, 'bad']) }),
    run: (w, a) => show(sys.setxattr(w.root, a.path, 'security.capability', bytes(a.value))),
  },
  'get-capability': {
    weight: 3,
    make: (c) => ({ path: c.existing('f') }),
    run: (w, a) => showBytes(sys.getxattr(w.root, a.path, 'security.capability')),
  },
  'set-acl': setAcl(8, 'system.posix_acl_access', 'dffo'),
  'set-default-acl': setAcl(5, 'system.posix_acl_default', 'dddf'),
  'get-acl': {
    weight: 4,
    make: (c) => ({ path: c.existing('dffo') }),
    run: (w, a) => showBytes(sys.getxattr(w.root, a.path, 'system.posix_acl_access')),
  },
  'remove-acl': {
    weight: 4,
    make: (c) => ({
      path: c.existing('dffo'),
      key: c.random.pick(['system.posix_acl_access', 'system.posix_acl_default']),
    }),
    run: (w, a) => show(sys.removexattr(w.root, a.path, a.key)),
  },
};

function showNames(list: string[] | number): string {
  return typeof list === 'number' ? show(list) : JSON.stringify(list);
}
