// What will be wanted next, by what is wanted now: a program that is started reads nearly all of itself, its loader and its libraries,
// one after the other, and each of them would cost a round trip for every piece.
// Asked by loader.ts for chunks that somebody wants and for those that came; says to queue.ts what to fetch behind what is waited for.
// Follows: ld.so(8), by names alone (programs.ts, bytes/elf.ts). A wrong guess costs bytes and nothing else.

import { readSync } from 'node:fs';
import { type Needs, readNeeds } from '../../bytes/elf.js';
import { type ByteSource, requireRange } from '../../bytes/source.js';
import { type Program, ProgramList } from '../programs.js';
import type { LoadedLayer } from './layer.js';
import type { LayerQueue } from './queue.js';

/** Bytes of a file up to which all of it is fetched; of a larger one what says which libraries it needs. */
const WHOLE = 4 << 20;
/** Files of a layer that are looked into at a time: more are no program that starts. */
const MOST_OPEN = 256;

/** A layer that is loaded, and what was guessed of it. */
export class GuessedLayer {
  readonly layer: LoadedLayer;
  readonly queue: LayerQueue;
  readonly begun = new Set<Program>();
  /** By the chunk that is missing to go on. */
  readonly waiting = new Map<number, Program[]>();
  #list: ProgramList | undefined;

  constructor(layer: LoadedLayer, queue: LayerQueue) {
    this.layer = layer;
    this.queue = queue;
  }

  /** A layer that was begun before it was published has them later. */
  get programs(): ProgramList | undefined {
    this.#list ??= ProgramList.read(this.layer.folder);
    return this.#list;
  }

  /** First chunk of these bytes of the blob, and the last. */
  chunksOf(at: number, length: number): readonly [first: number, last: number] {
    const { table } = this.layer;
    return [table.find(at), table.find(at + length - 1)];
  }
}

/** Thrown by a source for what has not come. */
class AbsentChunk extends Error {
  readonly chunk: number;

  constructor(chunk: number) {
    super(`chunk ${chunk} is not here`);
    this.chunk = chunk;
  }
}

export class Guesser {
  readonly #beside: (of: GuessedLayer) => Iterable<GuessedLayer>;

  /** @param beside layers that are loaded for a mount that a layer is in, that one too, topmost first. */
  constructor(beside: (of: GuessedLayer) => Iterable<GuessedLayer>) {
    this.#beside = beside;
  }

  /** Somebody waits for these chunks. */
  wanted(of: GuessedLayer, first: number, count: number): void {
    const { table } = of.layer;
    const last = first + count - 1;
    const found = of.programs?.in(table.at(first), table.at(last) + table.length(last)) ?? [];
    for (const program of found) this.#begin(of, program);
  }

  /** Somebody is about to run this program. @param of one of the layers that it may be in. */
  starts(of: GuessedLayer, name: string): void {
    this.#beginNamed(of, name.slice(name.lastIndexOf('/') + 1));
  }

  /** These have come. */
  arrived(of: GuessedLayer, chunks: readonly number[]): void {
    if (of.waiting.size === 0) return;
    for (const chunk of chunks) {
      const programs = of.waiting.get(chunk) ?? [];
      of.waiting.delete(chunk);
      for (const program of programs) this.#look(of, program);
    }
  }

  #begin(of: GuessedLayer, program: Program): void {
    if (of.begun.has(program) || of.waiting.size > MOST_OPEN) return;
    of.begun.add(program);
    if (program.size <= WHOLE) {
      const [first, last] = of.chunksOf(program.at, program.size);
      const chunks = Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => first + k);
      // The end of a file has what names its libraries: those are next.
      of.queue.guess([first, last, ...chunks.slice(1, -1)]);
    }
    if (program.path !== '') this.#look(of, program);
  }

  #look(of: GuessedLayer, program: Program): void {
    let needs: Needs | undefined;
    try {
      needs = readNeeds(sourceOf(of, program));
    } catch (error) {
      if (error instanceof AbsentChunk) this.#await(of, program, error.chunk);
      // Else it is no program, or none that runs.
      return;
    }
    if (needs === undefined) return;
    const names = [
      ...(needs.interpreter === undefined ? [] : [needs.interpreter]),
      ...needs.libraries,
    ];
    for (const name of names) this.#beginNamed(of, name.slice(name.lastIndexOf('/') + 1));
  }

  #await(of: GuessedLayer, program: Program, chunk: number): void {
    of.queue.guess([chunk]);
    const waiting = of.waiting.get(chunk);
    if (waiting === undefined) of.waiting.set(chunk, [program]);
    else waiting.push(program);
  }

  #beginNamed(beside: GuessedLayer, name: string): void {
    for (const of of this.#beside(beside)) {
      const program = of.programs?.named(name);
      if (program === undefined) continue;
      this.#begin(of, program);
      return;
    }
  }
}

/** A file as far as it is here. */
function sourceOf(of: GuessedLayer, { at: start, size }: Program): ByteSource {
  const { map, blob } = of.layer;
  return {
    size,
    read: (at, out) => {
      requireRange(at, out.length, size);
      if (out.length === 0) return;
      const [first, last] = of.chunksOf(start + at, out.length);
      for (let i = first; i <= last; i++) if (!map.isHere(i)) throw new AbsentChunk(i);
      for (let done = 0; done < out.length; ) {
        const n = readSync(blob, out, done, out.length - done, start + at + done);
        if (n === 0) throw new RangeError('the blob has an end here');
        done += n;
      }
    },
  };
}
