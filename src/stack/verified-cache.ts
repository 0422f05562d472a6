// Objects whose bytes were compared before: a file of this user that names device, inode, size, change time and digest.
// Used by compare-objects.ts, so that a second mount of an image reads no object again.
// Published by rename; whatever is wrong with the file only costs reading again. It lies in XDG_CACHE_HOME (basedir-spec).

import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { O } from '../linux/constants.js';

/** First line; another one is another format. */
const HEAD = 'varve verified objects 1';
/** Entries kept; 140 bytes each. */
const MOST = 500_000;

export class VerifiedCache {
  readonly #path: string;
  /** Oldest first. */
  readonly #known: Map<string, string>;
  #changed = false;

  private constructor(path: string, known: Map<string, string>) {
    this.#path = path;
    this.#known = known;
  }

  static open(env: NodeJS.ProcessEnv = process.env): VerifiedCache {
    const path = join(cacheFolder(env), 'verified-objects');
    return new VerifiedCache(path, readKnown(path));
  }

  /** @param key see object-comparer.ts. @returns hex. */
  digestOf(key: string | undefined): string | undefined {
    return key === undefined ? undefined : this.#known.get(key);
  }

  note(key: string | undefined, digest: string | undefined): void {
    if (key === undefined || digest === undefined) return;
    this.#known.delete(key);
    this.#known.set(key, digest);
    this.#changed = true;
  }

  /** Failure is nobody's concern: a read-only home only means that objects are read again. */
  save(): void {
    if (!this.#changed) return;
    const entries = [...this.#known].slice(-MOST);
    const text = `${[HEAD, ...entries.map(([key, digest]) => `${key} ${digest}`)].join('\n')}\n`;
    const temporary = `${this.#path}.${process.pid}`;
    try {
      mkdirSync(join(this.#path, '..'), { recursive: true, mode: 0o700 });
      const fd = openSync(temporary, O.WRONLY | O.CREAT | O.TRUNC | O.NOFOLLOW, 0o600);
      try {
        writeAll(fd, Buffer.from(text));
      } finally {
        closeSync(fd);
      }
      renameSync(temporary, this.#path);
    } catch {
      // As above.
    }
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

function cacheFolder(env: NodeJS.ProcessEnv): string {
  const xdg = env['XDG_CACHE_HOME'];
  return join(xdg?.startsWith('/') === true ? xdg : join(homedir(), '.cache'), 'varve');
}

/** What somebody else could have written is not believed. */
function readKnown(path: string): Map<string, string> {
  const known = new Map<string, string>();
  let fd: number;
  try {
    fd = openSync(path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  } catch {
    return known;
  }
  try {
    const stat = fstatSync(fd);
    const isOurs = stat.isFile() && stat.uid === process.geteuid?.() && (stat.mode & 0o022) === 0;
    const [head, ...lines] = isOurs ? readFileSync(fd, 'latin1').split('\n') : [];
    if (head !== HEAD) return known;
    for (const line of lines) {
      const at = line.indexOf(' ');
      if (at > 0) known.set(line.slice(0, at), line.slice(at + 1));
    }
    return known;
  } catch {
    return known;
  } finally {
    closeSync(fd);
  }
}
