// What the commands about registries share: which image store is meant, how a registry is spoken to, failures as lines with exit codes.
// Used by pull.ts, push.ts, images.ts, mount-registry.ts, run-registry.ts and others of their kind.
// Manual: registry-commands.ts.

import { existsSync } from 'node:fs';
import { imageStorePath } from '../lazy/image-record.js';
import { RegistryError, type RegistryErrorKind } from '../oci/errors.js';
import { Limits } from '../oci/limits.js';
import {
  formatReference,
  namesRegistry,
  parseReference,
  type Reference,
} from '../oci/reference.js';
import { Registry, type RegistryOptions } from '../oci/registry.js';
import { shortNames } from '../oci/short-name.js';
import { plain } from '../report/words.js';
import { MountError, type MountErrorKind } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { asMountError } from './image.js';

const KINDS: Record<RegistryErrorKind, MountErrorKind> = {
  auth: 'permission',
  absent: 'absent',
  refused: 'option',
  busy: 'server',
  network: 'server',
  wrong: 'layer',
  range: 'server',
  policy: 'permission',
  limit: 'layer',
};

/** The image store that is meant. @throws MountError of kind `option`. */
export function imageStoreOf(given: Arguments): string {
  const flag = given.value('store');
  if (flag === '') throw new MountError('option', '--store: is empty: name a folder');
  return imageStorePath(flag);
}

/** What a name may stand for, in turn: one without a registry as registries.conf says. @throws MountError of kind `option`. */
export function referencesOf(text: string): Reference[] {
  try {
    return namesRegistry(text) ? [parseReference(text)] : shortNames(text, process.env);
  } catch (error) {
    throw asRegistryFailure(error, text);
  }
}

/**
 * Where something is to be sent: never a guess.
 * @param near a registry that is meant where the name could be of several. @throws MountError of kind `option`.
 */
export function targetOf(text: string, near?: string): Reference {
  const candidates = referencesOf(text);
  const [first] = candidates;
  const meant = candidates.length === 1 ? first : candidates.find((c) => c.registry === near);
  if (meant !== undefined) return meant;
  const names = candidates.map(formatReference).join(' or ');
  throw new MountError(
    'option',
    `'${text}' names no registry, and registries.conf several: write ${names}`,
  );
}

/** `128K`, `1.5M`, `3G` or a number, in bytes. @throws MountError of kind `option` that names the flag. */
export function bytesOf(flag: string, text: string): number {
  const [, number = '', unit = ''] = /^([0-9]+(?:\.[0-9]+)?)([KMGkmg]?)(?:i?B)?$/.exec(text) ?? [];
  const factor = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[unit.toUpperCase()] ?? 1;
  const bytes = Math.round(Number(number) * factor);
  if (number === '' || !Number.isSafeInteger(bytes)) {
    throw new MountError('option', `--${flag}=${text}: write a number of bytes, or 128K, 10M, 1G`);
  }
  return bytes;
}

/** `--limit-rate`, bytes a second; 0: as many as come. @throws MountError of kind `option`. */
export function rateOf(given: Arguments): number | undefined {
  const text = given.value('limit-rate');
  return text === undefined ? undefined : bytesOf('limit-rate', text);
}

/** `--authfile`: whoever names one means not to be anonymous. @throws MountError of kind `option`. */
export function authFileOf(given: Arguments): string | undefined {
  const file = given.value('authfile');
  if (file === undefined || existsSync(file)) return file;
  throw new MountError('option', `--authfile: ${file}: no such file: name one of credentials`);
}

/** `--signature-policy`. @throws MountError of kind `option`. */
export function policyFileOf(given: Arguments): string | undefined {
  const file = given.value('signature-policy');
  if (file === '') throw new MountError('option', '--signature-policy: is empty: name a file');
  return file;
}

/** How registries are spoken to, as the flags say; `plainHttp` apart. @throws MountError of kind `option`. */
export function registryOptionsOf(given: Arguments): Omit<RegistryOptions, 'plainHttp'> {
  const bytesPerSecond = rateOf(given);
  const authFile = authFileOf(given);
  const policyFile = policyFileOf(given);
  return {
    ...(authFile === undefined ? {} : { authFile }),
    ...(policyFile === undefined ? {} : { policyFile }),
    ...(bytesPerSecond === undefined ? {} : { limits: new Limits({ bytesPerSecond }) }),
    log: (line) => process.stderr.write(`varve: ${plain(line)}\n`),
  };
}

/**
 * Opens a registry as the flags say, does the work, closes it; its failures become MountErrors.
 * @param signal breaks off whatever is under way.
 */
export async function withRegistry<T>(
  given: Arguments,
  what: string,
  work: (registry: Registry) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  let registry: Registry | undefined;
  try {
    registry = new Registry({
      plainHttp: given.has('plain-http'),
      ...registryOptionsOf(given),
      ...(signal === undefined ? {} : { signal }),
    });
    return await work(registry);
  } catch (error) {
    throw asRegistryFailure(error, what);
  } finally {
    registry?.close();
  }
}

/** What a registry or a layer failed with, as a line with an exit code. @param what to name where the error does not. */
export function asRegistryFailure(error: unknown, what: string): unknown {
  if (error instanceof RegistryError) {
    return new MountError(KINDS[error.kind], error.message, { cause: error });
  }
  return asMountError(error, what);
}
