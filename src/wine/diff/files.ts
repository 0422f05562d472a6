// Which files differ: what a subject has of its own against what lies below, or all of one against all of another.
// Paths begin with drive_c, so that they are those of the prefix; the registry files of images are left out.
// union/ does the work; layers stay open, for content is read when it is shown.

import { asStack, asUnion, openLayers } from '../../ops/open-stack.js';
import { filesOf } from '../../report/patch-files.js';
import { MountError } from '../../stack/errors.js';
import { privilege } from '../../stack/privilege.js';
import type { Change } from '../../union/change.js';
import { readChanges } from '../../union/changes.js';
import { unionChanges } from '../../union/union-changes.js';
import { INNER } from '../prefix/registry-source.js';
import type { Subject } from './subject.js';

export interface FileChanges {
  /** `=` included. */
  readonly changes: readonly Change[];
  /** The same file by file, for a patch: what a directory took with it has lines of its own. */
  each(changes: readonly Change[]): Iterable<Change>;
  close(): void;
}

/** What the subject has changed itself. @throws MountError of kind `layer`; those of union/. */
export function ownFiles(subject: Subject): FileChanges {
  const opened = open(subject);
  try {
    const stack = asStack(opened);
    const found = readChanges(stack).filter(isInside);
    const placed = new Map(found.map((change) => [placedInPrefix(change), change]));
    return {
      changes: [...placed.keys()],
      *each(changes) {
        const inside = changes.flatMap((change) => placed.get(change) ?? []);
        for (const change of filesOf(inside, stack)) yield placedInPrefix(change);
      },
      close: () => opened.close(),
    };
  } catch (error) {
    opened.close();
    throw error;
  }
}

/** All that differs between two. @throws as ownFiles(). */
export function filesBetween(before: Subject, after: Subject): FileChanges {
  const old = open(before);
  try {
    const now = open(after);
    try {
      const changes = unionChanges(asUnion(old), asUnion(now)).filter(isInside);
      return {
        changes: changes.map(placedInPrefix),
        each: (some) => some,
        close: () => {
          old.close();
          now.close();
        },
      };
    } catch (error) {
      now.close();
      throw error;
    }
  } catch (error) {
    old.close();
    throw error;
  }
}

function open({ own, below, label }: Subject): ReturnType<typeof openLayers> {
  const lowerdirs = below.map(({ driveC }) => driveC);
  const datadirs = [...new Set([...(own?.data ?? []), ...below.flatMap(({ data }) => data)])];
  if (own === undefined && lowerdirs.length === 0) {
    throw new MountError('layer', `${label}: has no files`);
  }
  return openLayers({
    layers: {
      ...(own === undefined ? {} : { upperdir: own.path }),
      ...(own?.work === undefined ? {} : { workdir: own.work }),
      lowerdirs,
      datadirs,
      userxattr: !privilege().full,
      whiteouts: 'kernel',
      redirectDir: 'on',
    },
  });
}

function isInside({ path }: Change): boolean {
  return path !== INNER && !path.startsWith(`${INNER}/`);
}

const DRIVE = 'drive_c';

function placedInPrefix(change: Change): Change {
  const place = (path: string): string => (path === '' ? DRIVE : `${DRIVE}/${path}`);
  const { path, from, link } = change;
  return {
    ...change,
    path: place(path),
    ...(from === undefined ? {} : { from: place(from) }),
    ...(link === undefined ? {} : { link: place(link) }),
  };
}
