// The two parts of every comparison: files and registry, of one subject against what lies below it, or of two.
// Called by `varve wine diff`; what is not asked for is not read.
// A registry delta tells the change; the registry below it tells what was there before.

import type { StackNames } from '../../report/document.js';
import type { KeyChange } from '../../report/keys.js';
import { MountError } from '../../stack/errors.js';
import { EMPTY_DELTA, type RegistryDelta } from '../registry/delta.js';
import { diffRegistry } from '../registry/diff.js';
import { type FileChanges, filesBetween, ownFiles } from './files.js';
import { registryChanges } from './registry-changes.js';
import { type Subject, wholeRegistry } from './subject.js';

export interface Wanted {
  readonly files: boolean;
  readonly registry: boolean;
}

export interface RegistryPart {
  readonly delta: RegistryDelta;
  /** Noise included. */
  readonly keys: readonly KeyChange[];
}

export interface Comparison {
  readonly names: StackNames;
  readonly files?: FileChanges;
  readonly registry?: RegistryPart;
  close(): void;
}

/** @throws MountError: `option` for what has nothing below; `layer`; those of union/. */
export function compareWithBelow(subject: Subject, wanted: Wanted): Comparison {
  if (subject.own === undefined) {
    throw new MountError(
      'option',
      `${subject.label}: stands on nothing: name two to compare, the older one first`,
    );
  }
  const files = wanted.files ? ownFiles(subject) : undefined;
  return withRegistry(
    { upperdir: subject.label, lowerdirs: subject.below.map(({ label }) => label) },
    files,
    wanted.registry ? () => ownRegistry(subject) : undefined,
  );
}

/** @throws as compareWithBelow(). */
export function compareTwo(before: Subject, after: Subject, wanted: Wanted): Comparison {
  const files = wanted.files ? filesBetween(before, after) : undefined;
  return withRegistry(
    { upperdir: after.label, lowerdirs: [before.label] },
    files,
    wanted.registry ? () => registryBetween(before, after) : undefined,
  );
}

function withRegistry(
  names: StackNames,
  files: FileChanges | undefined,
  read: (() => RegistryPart) | undefined,
): Comparison {
  const close = (): void => files?.close();
  try {
    const registry = read?.();
    return {
      names,
      ...(files === undefined ? {} : { files }),
      ...(registry === undefined ? {} : { registry }),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function ownRegistry(subject: Subject): RegistryPart {
  const { below, delta } = subject.registry();
  return { delta, keys: registryChanges(below, delta) };
}

function registryBetween(before: Subject, after: Subject): RegistryPart {
  const old = wholeRegistry(before);
  const now = wholeRegistry(after);
  if (old === undefined || now === undefined) return { delta: EMPTY_DELTA, keys: [] };
  const delta = diffRegistry(old, now);
  return { delta, keys: registryChanges(old, delta) };
}
