// The loader's way to registries: ranges of blobs, by one client for each way of speaking to them.
// Used by stack/loader.ts; fetch.ts decides which source is asked, oci/ which host of it.
// A failure is told soon: the loader waits by itself, and says so (scheduler.ts).

import { Limits } from '../../oci/limits.js';
import { Registry, type RegistryOptions } from '../../oci/registry.js';
import type { Source } from '../layer-folder.js';
import type { ReadRange } from './fetch.js';
import type { ReadWhole } from './whole.js';

/** Milliseconds without a byte after which a request is broken. */
const TIMEOUT = 15_000;
/** Attempts that oci/ makes again without telling. */
const RETRIES = 1;

/** Bytes that came for nothing, as a share of an origin: from there on it is read from its beginning, once. */
const MOST_PASSED = 0.5;

/** @param options of each Registry; `plainHttp` is the source's. */
export function registryRanges(options: Omit<RegistryOptions, 'plainHttp' | 'onPassed'>): {
  readonly read: ReadRange;
  readonly whole: ReadWhole;
} {
  const known = new Map<boolean, Registry>();
  const limits = options.limits ?? new Limits();
  /** By digest of the origin. */
  const passed = new Map<string, number>();
  const clientFor = ({ plainHttp = false }: Source): Registry => {
    const before = known.get(plainHttp);
    if (before !== undefined) return before;
    const client = new Registry({
      retries: RETRIES,
      timeout: TIMEOUT,
      ...options,
      limits,
      plainHttp,
      onPassed: (digest, bytes) => passed.set(digest, (passed.get(digest) ?? 0) + bytes),
    });
    known.set(plainHttp, client);
    return client;
  };
  return {
    read: (source, origin, at, length, signal) =>
      clientFor(source).range(source, origin, at, length, signal),
    whole: {
      isBetter: ({ digest, size }) => (passed.get(digest) ?? 0) > MOST_PASSED * size,
      read: (source, origin, signal) => clientFor(source).blob(source, origin, signal),
    },
  };
}

/** What the environment allows: $VARVE_RATE bytes a second (with K, M or G), $VARVE_CONNECTIONS requests at a time. */
export function limitsOf(env: NodeJS.ProcessEnv): Limits {
  const connections = Number(env['VARVE_CONNECTIONS'] ?? '');
  const [, number, unit = ''] = /^(\d+)([KMG]?)$/.exec(env['VARVE_RATE'] ?? '') ?? [];
  const factor = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 }[unit] ?? 1;
  return new Limits({
    ...(Number.isInteger(connections) && connections > 0 ? { connections } : {}),
    bytesPerSecond: Number(number ?? 0) * factor,
  });
}
