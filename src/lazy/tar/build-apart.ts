// Unpacks a tar layer beside everything else that its process does: a loader serves other mounts, a command hears signals.
// Called by index.ts; the thread is build-worker.ts, the work tar-layer.ts.
// What is small is unpacked here: a thread takes longer to start.

import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { TreeError } from '../../tree/errors.js';
import { buildTarLayer, type TarBuildOptions } from './tar-layer.js';

/** Bytes of a layer as it came that are unpacked while a thread would start. */
const SMALL = 1 << 20;
/** Milliseconds within which a thread that was asked to stop is likely to have done so. */
const STOPS_WITHIN = 250;

/** What the thread is given. */
export interface BuildOrders {
  readonly options: Omit<TarBuildOptions, 'stop'>;
  readonly staged: string;
  readonly path: string;
  /** One word, not 0 when it is to stop. */
  readonly stop: Int32Array;
}

/** What the thread answers, once. `bad`: the archive, or what cannot be stored of it. */
export type BuildOutcome =
  | { readonly is: 'built' | 'stopped' }
  | { readonly is: 'bad'; readonly message: string }
  | { readonly is: 'failed'; readonly message: string; readonly code?: string };

/**
 * As buildTarLayer(). @param signal breaks it off: the thread may write to files that it has open for a moment more, and nowhere else.
 * @throws TreeError, RangeError; the signal's reason.
 */
export async function buildApart(
  options: BuildOrders['options'],
  staged: string,
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  if (statSync(path).size <= SMALL) return buildTarLayer(options, staged, path);
  const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const workerData: BuildOrders = { options, staged, path, stop };
  const worker = new Worker(new URL('./build-worker.js', import.meta.url), { workerData });
  const ended = outcomeOf(worker);
  const outcome = await Promise.race([ended, aborted(signal)]);
  if (outcome === undefined) {
    Atomics.store(stop, 0, 1);
    // It may be waiting for a disk.
    worker.unref();
    await Promise.race([ended.catch(() => {}), sleep(STOPS_WITHIN)]);
    signal?.throwIfAborted();
  } else if (outcome.is === 'bad') {
    throw new TreeError(outcome.message);
  } else if (outcome.is === 'failed') {
    throw Object.assign(new Error(outcome.message), { code: outcome.code });
  }
}

/** Resolves when the thread has ended. */
function outcomeOf(worker: Worker): Promise<BuildOutcome> {
  return new Promise((resolve, reject) => {
    let told: BuildOutcome | undefined;
    worker.once('message', (outcome: BuildOutcome) => {
      told = outcome;
    });
    worker.once('error', reject);
    worker.once('exit', () => {
      if (told === undefined) reject(new Error('the thread that unpacks the layer has ended'));
      else resolve(told);
    });
  });
}

/** Resolves with undefined. */
function aborted(signal: AbortSignal | undefined): Promise<undefined> {
  return new Promise((resolve) => {
    signal?.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
