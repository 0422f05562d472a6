// A bench: every variant of every payload boots in turn, some rounds; the smallest figures count.
// Called by `varve boot bench` and by bench/boot.ts. One machine at a time; all that is made goes again.
// The order of a round is payload by payload, variant by variant, so that what else the host does meets all of them.

import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { writeCpio } from '../../tree/cpio-write.js';
import type { TreeNode } from '../../tree/tree.js';
import { bootableKernel } from './kernel.js';
import { BootFailed, type BootFigures, bootOnce } from './machine.js';
import { givenPayload, madePayload, type Payload } from './payload.js';
import { leastThat, minimums } from './statistics.js';
import { type Ingredients, type Prepared, prepare } from './variants.js';

export interface BenchRequest {
  /** A vmlinuz or a vmlinux. */
  readonly kernel: string;
  readonly modules: Ingredients['modules'];
  /** Bytes of payloads that are made, or files that are initramfs images. */
  readonly payloads: readonly (number | string)[];
  readonly variants: readonly string[];
  readonly rounds: number;
  /** MB of each machine. */
  readonly memory: number;
  /** Also look for the smallest machine that still boots. */
  readonly leastMemory: boolean;
  /** Seconds for one boot. */
  readonly seconds: number;
  /** What QEMU is started by. */
  readonly prefix?: readonly string[];
  /** For what is made meanwhile; TMPDIR. */
  readonly scratch?: string;
  readonly onProgress: (text: string) => void;
}

export interface BenchResult {
  readonly payload: string;
  /** Bytes of the payload's files. */
  readonly bytes: number;
  readonly files: number;
  readonly variant: string;
  /** Bytes in /boot. */
  readonly stored: number;
  /** Seconds that making it took. */
  readonly built: number;
  readonly turns: readonly BootFigures[];
  /** The smallest of each. */
  readonly best: BootFigures;
  /** MB of the smallest machine that boots, when it was looked for. */
  readonly leastMemory?: number;
}

/** What results.json holds. */
export interface BenchReport {
  readonly version: 1;
  readonly kernel: string;
  readonly release?: string;
  /** MB. */
  readonly memory: number;
  readonly rounds: number;
  readonly results: readonly BenchResult[];
}

interface Subject {
  readonly payload: Pick<Payload, 'name' | 'bytes' | 'files'>;
  readonly variant: string;
  readonly prepared: Prepared;
  readonly turns: BootFigures[];
}

/** @throws MountError of kind `server` when a variant does not boot, of others for what cannot be made. */
export async function runBench(request: BenchRequest): Promise<BenchReport> {
  const folder = mkdtempSync(join(request.scratch ?? tmpdir(), 'varve-boot-bench-'));
  try {
    const kernel = bootableKernel(request.kernel, folder);
    const subjects = await prepareAll(request, folder);
    for (let round = 1; round <= request.rounds; round++) {
      for (const subject of subjects) {
        const turn = await bootSubject(subject, kernel, request);
        subject.turns.push(turn);
        request.onProgress(
          `round ${round} of ${request.rounds}: ${nameOf(subject)}: init after ${turn.init.toFixed(2)} s`,
        );
      }
    }
    const results: BenchResult[] = [];
    for (const subject of subjects) results.push(await resultOf(subject, kernel, request));
    const { memory, rounds } = request;
    const release = request.modules?.release;
    return {
      version: 1,
      kernel: request.kernel,
      ...(release !== undefined && { release }),
      memory,
      rounds,
      results,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function bootSubject(
  subject: Subject,
  kernel: string,
  request: BenchRequest,
): Promise<BootFigures> {
  try {
    return await bootOnce(machineOf(subject, kernel, request));
  } catch (error) {
    if (!(error instanceof BootFailed)) throw error;
    const remedy = 'give it more --memory or --timeout, or leave it out';
    throw new MountError('server', `${nameOf(subject)}: ${error.message}: ${remedy}`, {
      cause: error,
    });
  }
}

const nameOf = ({ payload, variant }: Subject): string => `${payload.name}, ${variant}`;

async function prepareAll(request: BenchRequest, folder: string): Promise<Subject[]> {
  const subjects: Subject[] = [];
  for (const [i, wanted] of request.payloads.entries()) {
    const payload = typeof wanted === 'number' ? madePayload(wanted) : givenPayload(wanted);
    const cpio = join(folder, `payload${i}.cpio`);
    try {
      writeArchive(payload.root, cpio);
    } finally {
      payload.close();
    }
    const { name, bytes, files } = payload;
    for (const variant of request.variants) {
      request.onProgress(`makes ${name}, ${variant}`);
      const place = join(folder, `payload${i}.${variant}`);
      mkdirSync(place);
      const prepared = await prepare(variant, { cpio, folder: place, modules: request.modules });
      subjects.push({ payload: { name, bytes, files }, variant, prepared, turns: [] });
    }
  }
  return subjects;
}

/** Gathers what is written in small pieces. */
const BUFFER = 1024 * 1024;

function writeArchive(root: TreeNode, path: string): void {
  const fd = openSync(path, 'w');
  const buffer = Buffer.allocUnsafe(BUFFER);
  let filled = 0;
  const flush = (): void => {
    for (let done = 0; done < filled; ) done += writeSync(fd, buffer, done, filled - done);
    filled = 0;
  };
  try {
    writeCpio(root, (piece) => {
      for (let at = 0; at < piece.length; ) {
        const some = piece.subarray(at, at + BUFFER - filled);
        buffer.set(some, filled);
        filled += some.length;
        at += some.length;
        if (filled === BUFFER) flush();
      }
    });
    flush();
  } finally {
    closeSync(fd);
  }
}

const machineOf = ({ prepared }: Subject, kernel: string, request: BenchRequest) => ({
  kernel,
  initrd: prepared.initrd,
  ...(prepared.disk !== undefined && { disk: prepared.disk }),
  memory: request.memory,
  seconds: request.seconds,
  ...(request.prefix && { prefix: request.prefix }),
});

async function resultOf(
  subject: Subject,
  kernel: string,
  request: BenchRequest,
): Promise<BenchResult> {
  const { payload, variant, prepared, turns } = subject;
  const machine = machineOf(subject, kernel, request);
  const least = request.leastMemory
    ? await leastThat({ least: 48, most: request.memory, step: 16 }, async (memory) => {
        const works = await boots({ ...machine, memory });
        request.onProgress(
          `${nameOf(subject)}: ${works ? 'boots' : 'does not boot'} in ${memory} MB`,
        );
        return works;
      })
    : undefined;
  return {
    payload: payload.name,
    bytes: payload.bytes,
    files: payload.files,
    variant,
    stored: prepared.stored,
    built: prepared.seconds,
    turns,
    best: minimums(turns),
    ...(least !== undefined && { leastMemory: least }),
  };
}

async function boots(machine: Parameters<typeof bootOnce>[0]): Promise<boolean> {
  try {
    await bootOnce(machine);
    return true;
  } catch (error) {
    if (error instanceof BootFailed) return false;
    throw error;
  }
}
