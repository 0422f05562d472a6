// POSIX ACLs as text (what tar archives carry) into the kernel's xattr form.
// Used by tar-pax. GNU tar writes names of users and groups: as when it extracts, they mean who has them on this machine.
// Follows: acl_from_text(3), star(5) SCHILY.acl; include/uapi/linux/posix_acl_xattr.h, version 2.

import { readFileSync } from 'node:fs';
import { show } from './tree.js';

const VERSION = 2;
const TAGS = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 16, OTHER: 32 } as const;
const UNDEFINED_ID = 0xffff_ffff;

interface Entry {
  readonly tag: number;
  readonly perm: number;
  readonly id: number;
}

/**
 * @param text `user::rw-,user:1000:r--,group::r--,...`, with commas or newlines; a fourth part is the number of a name.
 * @returns the xattr's value; empty when the text has no more than a mode; or what is wrong.
 */
export function parseAclText(text: string): Buffer | string {
  const entries: Entry[] = [];
  for (const word of text.split(/[,\n]/)) {
    const line = word.replace(/#.*$/, '').trim();
    if (line === '') continue;
    const entry = parseEntry(line);
    if (typeof entry === 'string') return entry;
    entries.push(entry);
  }
  if (entries.length <= 3 && entries.every(({ id }) => id === UNDEFINED_ID)) return Buffer.alloc(0);
  // The order in which the kernel wants them.
  entries.sort((a, b) => a.tag - b.tag || a.id - b.id);
  const value = Buffer.alloc(4 + 8 * entries.length);
  value.writeUInt32LE(VERSION, 0);
  entries.forEach(({ tag, perm, id }, i) => {
    value.writeUInt16LE(tag, 4 + 8 * i);
    value.writeUInt16LE(perm, 6 + 8 * i);
    value.writeUInt32LE(id, 8 + 8 * i);
  });
  return value;
}

function parseEntry(line: string): Entry | string {
  const [kind, name = '', letters = '', number] = line.split(':');
  const perm = permissions(kind === 'mask' || kind === 'other' ? letters || name : letters);
  const tag = tagOf(kind ?? '', name);
  if (tag === undefined || perm === undefined) return `${show(line)} is no ACL entry`;
  if (tag !== TAGS.USER && tag !== TAGS.GROUP) return { tag, perm, id: UNDEFINED_ID };
  const digits = number ?? name;
  const file = tag === TAGS.USER ? '/etc/passwd' : '/etc/group';
  const id = /^[0-9]{1,10}$/.test(digits) ? Number(digits) : accountId(file, name);
  if (id === undefined || id >= UNDEFINED_ID) {
    return `${show(line)} names somebody whom ${file} does not know`;
  }
  return { tag, perm, id };
}

function tagOf(kind: string, name: string): number | undefined {
  switch (kind) {
    case 'user':
    case 'u':
      return name === '' ? TAGS.USER_OBJ : TAGS.USER;
    case 'group':
    case 'g':
      return name === '' ? TAGS.GROUP_OBJ : TAGS.GROUP;
    case 'mask':
    case 'm':
      return TAGS.MASK;
    case 'other':
    case 'o':
      return TAGS.OTHER;
    default:
      return undefined;
  }
}

const accounts = new Map<string, ReadonlyMap<string, number>>();

/** The number of a user or group, from a file with lines of `name:x:number:...`. */
function accountId(file: string, name: string): number | undefined {
  let known = accounts.get(file);
  if (known === undefined) {
    known = new Map(
      readLines(file)
        .map((line) => line.split(':'))
        .map(([who, , id]) => [who ?? '', Number(id)]),
    );
    accounts.set(file, known);
  }
  return known.get(name);
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, 'latin1').split('\n');
  } catch {
    return [];
  }
}

/** `r-x` or an octal digit. */
function permissions(letters: string): number | undefined {
  if (/^[0-7]$/.test(letters)) return Number(letters);
  if (!/^[r-][w-][xX-]$/.test(letters)) return undefined;
  return (letters[0] === 'r' ? 4 : 0) | (letters[1] === 'w' ? 2 : 0) | (letters[2] !== '-' ? 1 : 0);
}
