// Who a command of an image is: number, groups and home, as the image's own passwd and group files have them.
// Used by image-inside.ts, which has read these files from the image.
// Follows: `User` of the OCI image specification, as podman and runc read it (libcontainer/user, GetExecUser).

import { MountError } from '../stack/errors.js';

export interface ImageUser {
  readonly uid: number;
  readonly gid: number;
  /** All of its groups, its own among them, ascending. */
  readonly groups: readonly number[];
  readonly home: string;
}

/**
 * @param spec `user`, `uid`, `user:group`, `uid:gid`; empty: root. With a group it is in no other.
 * @param passwd and group: the files' text, empty where there is none.
 * @throws MountError of kind `layer` for a name that they do not have.
 */
export function imageUser(spec: string, passwd: string, group: string): ImageUser {
  const colon = spec.indexOf(':');
  const written = colon < 0 ? spec : spec.slice(0, colon);
  // An image without passwd has root all the same.
  const name = written === 'root' ? '0' : written;
  const asked = colon < 0 ? undefined : spec.slice(colon + 1);
  const isNumber = /^[0-9]+$/.test(name);
  const entry = entriesOf(passwd).find((fields) =>
    isNumber || name === '' ? idIn(fields, 2) === Number(name) : fields[0] === name,
  );
  if (entry === undefined && !isNumber && name !== '') throw unknown(spec, 'user', name);
  const uid = entry === undefined ? numberOf(name || '0', spec) : numberOf(entry[2] ?? '', spec);
  const home = entry?.[5] || '/';
  const own = idIn(entry ?? [], 3) ?? 0;
  if (asked !== undefined) {
    const gid = asked === '' ? own : groupNumber(asked, group, spec);
    return { uid, gid, groups: [gid], home };
  }
  const member = entry?.[0];
  const further = entriesOf(group)
    .filter(([, , , list = '']) => member !== undefined && list.split(',').includes(member))
    .map((fields) => idIn(fields, 2))
    .filter((id) => id !== undefined);
  const groups = [...new Set([own, ...further])].sort((a, b) => a - b);
  return { uid, gid: own, groups, home };
}

function groupNumber(name: string, group: string, spec: string): number {
  if (/^[0-9]+$/.test(name)) return numberOf(name, spec);
  const id = idIn(entriesOf(group).find((fields) => fields[0] === name) ?? [], 2);
  if (id === undefined) throw unknown(spec, 'group', name);
  return id;
}

const entriesOf = (text: string): string[][] =>
  text.split('\n').map((line) => line.trimEnd().split(':'));

/** Largest number that container tools take. */
const MOST = 2 ** 31 - 1;

/** The number in a field of a line; undefined where there is none that counts. */
function idIn(fields: readonly string[], at: number): number | undefined {
  const text = fields[at] ?? '';
  const id = Number(text);
  return /^[0-9]+$/.test(text) && id <= MOST ? id : undefined;
}

function numberOf(text: string, spec: string): number {
  const id = idIn([text], 0);
  if (id !== undefined) return id;
  throw new MountError(
    'layer',
    `the image runs as ${spec}: ${text === '' ? 'no number' : text} is no number from 0 to ${MOST}: --user names another user`,
  );
}

function unknown(spec: string, kind: 'user' | 'group', name: string): MountError {
  const file = kind === 'user' ? 'passwd' : 'group';
  return new MountError(
    'layer',
    `the image runs as ${spec}: its /etc/${file} has no ${kind} ${name}: --user names another user`,
  );
}
