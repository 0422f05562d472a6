// The flags about the form of an image, and what is said while one is built.
// Used by `image build` and `flatten`, whose tables of flags have the same names.
// Meanings: erofs/write-options.ts.

import {
  type BuildOptions,
  type BuildProgress,
  type Compression,
  type FileChoice,
  parseCompression,
} from '../erofs/write-options.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { counted } from './output.js';
import { StatusLine } from './status-line.js';

/** @throws MountError of kind `option`. */
export function buildOptions(given: Arguments, meter: Meter | undefined): BuildOptions {
  const { compression, choose } = compressionOf(given.values('compress'));
  const number = (flag: string): number | undefined => numberOf(given, flag);
  const root = given.has('all-root') ? 0 : undefined;
  return {
    compression,
    choose,
    pclusterSize: number('cluster'),
    tailPacking: given.has('tail-packing'),
    fragments: given.has('fragments') ? 'tails' : undefined,
    dedupe: given.has('dedupe'),
    chunkSize: number('chunksize'),
    blob: given.value('blobdev'),
    uid: number('force-uid') ?? root,
    gid: number('force-gid') ?? root,
    time: number('time'),
    uuid: uuidOf(given.value('uuid')),
    volumeName: labelOf(given.value('label')),
    workers: number('threads'),
    onProgress: meter?.building.bind(meter),
  };
}

/** `-z ALGORITHM[,LEVEL]` is for all files, `-z ALGORITHM[,LEVEL]:PATH` for those below PATH. */
function compressionOf(texts: readonly string[]): Pick<BuildOptions, 'compression' | 'choose'> {
  const compression: Compression[] = [];
  const rules: { path: string; choice: FileChoice }[] = [];
  let standard: FileChoice = { compression: -1 };
  for (const text of texts) {
    const [, method = text, path] = /^([^:]*):(.*[^0-9].*)$/s.exec(text) ?? [];
    const parsed = parse(method);
    const choice: FileChoice = {
      compression: parsed === undefined ? -1 : compression.push(parsed) - 1,
    };
    if (path === undefined) standard = choice;
    else
      rules.push({
        path: `/${Buffer.from(path)
          .toString('latin1')
          .replace(/^\/+|\/+$/g, '')}`,
        choice,
      });
  }
  if (rules.length === 0 && compression.length <= 1) return { compression };
  return {
    compression,
    choose: (path) =>
      rules.findLast((rule) => path === rule.path || path.startsWith(`${rule.path}/`))?.choice ??
      standard,
  };
}

function parse(text: string): Compression | undefined {
  try {
    return parseCompression(text);
  } catch (error) {
    throw new MountError('option', `-z: ${(error as Error).message}`);
  }
}

function numberOf(given: Arguments, flag: string): number | undefined {
  const text = given.value(flag);
  if (text === undefined) return undefined;
  const [, digits, unit = ''] = /^(-?\d+)([kKmM]?)$/.exec(text) ?? [];
  if (digits === undefined) {
    throw new MountError('option', `--${flag}=${text}: must be a number`);
  }
  return Number(digits) * { '': 1, k: 1024, m: 1024 * 1024 }[unit.toLowerCase() as '' | 'k' | 'm'];
}

function uuidOf(text: string | undefined): Uint8Array | undefined {
  if (text === undefined) return undefined;
  const hex = text.replaceAll('-', '');
  if (!/^[0-9a-fA-F]{32}$/.test(hex)) {
    throw new MountError('option', `--uuid=${text}: must be 32 hex digits`);
  }
  return Buffer.from(hex, 'hex');
}

function labelOf(text: string | undefined): string | undefined {
  return text === undefined ? undefined : Buffer.from(text).toString('latin1');
}

/** What is going on, for a terminal. */
export class Meter {
  readonly #line = new StatusLine(false);
  #started = 0;

  reading(names: number): void {
    this.show(`reading: ${counted(names, 'name')}`);
  }

  building(p: BuildProgress): void {
    const now = performance.now();
    if (this.#started === 0) this.#started = now;
    const seconds = (now - this.#started) / 1000;
    const rate = p.bytesIn / Math.max(seconds, 0.001);
    const left = rate > 0 ? (p.bytes - p.bytesIn) / rate : 0;
    const percent = p.bytes === 0 ? 100 : Math.floor((100 * p.bytesIn) / p.bytes);
    this.show(
      `${percent} %  ${p.filesDone}/${counted(p.files, 'file')}  ${bytesText(p.bytesIn)} to ${bytesText(p.bytesOut)}  ${bytesText(rate)}/s  ${Math.ceil(left)} s left`,
    );
  }

  show(text: string): void {
    this.#line.show(text);
  }

  end(): void {
    this.#line.end();
  }
}
