// Contents of files of a crash test as data, and which bytes a crash may leave of them.
// Used by actor.ts. No byte is zero, so that a hole or a page that was never written shows.

/** `length` bytes of the endless text `seed`, from its byte `from` on. */
export interface Piece {
  readonly seed: number;
  readonly from: number;
  readonly length: number;
}

export type Content = readonly Piece[];

export const piece = (seed: number, length: number): Piece => ({ seed, from: 0, length });

export function sizeOf(content: Content): number {
  return content.reduce((sum, { length }) => sum + length, 0);
}

export function bytesOf(content: Content): Buffer {
  const bytes = Buffer.alloc(sizeOf(content));
  let at = 0;
  for (const { seed, from, length } of content) {
    for (let i = from; i < from + length; i++) {
      bytes[at++] = ((seed * 131 + i * 7 + (i >>> 8) * 13 + (i >>> 16)) % 255) + 1;
    }
  }
  return bytes;
}

/** The first `size` bytes. */
export function cut(content: Content, size: number): Content {
  const kept: Piece[] = [];
  let left = size;
  for (const part of content) {
    const length = Math.min(part.length, left);
    if (length > 0) kept.push({ ...part, length });
    left -= length;
  }
  return kept;
}

/** With `part` in the place of what lies at `at`. */
export function overwritten(content: Content, at: number, part: Piece): Content {
  const end = at + part.length;
  const behind: Piece[] = [];
  let skip = end;
  for (const { seed, from, length } of content) {
    const gone = Math.min(skip, length);
    if (length > gone) behind.push({ seed, from: from + gone, length: length - gone });
    skip -= gone;
  }
  return [...cut(content, at), part, ...behind];
}

/** How a content came out of the one before it, which says what lies between the two. */
export type Step = 'first' | 'append' | 'overwrite' | 'rewrite' | 'truncate';

export interface Version {
  readonly content: Content;
  readonly step: Step;
}

/**
 * Whether a file may hold `found`: one of the versions, or what lies on the way from one to the next. What was written
 * and not synced may be missing, in part too, and its bytes may be zero: the filesystems themselves promise no more.
 * @param versions the one that is certainly stored, then those that were begun after it.
 */
export function isPossible(found: Buffer, versions: readonly Version[]): boolean {
  /** Bytes that every version so far has begun with. */
  let certain = Number.POSITIVE_INFINITY;
  for (const [i, { content, step }] of versions.entries()) {
    const whole = bytesOf(content);
    if (found.equals(whole)) return true;
    if (i === 0) continue;
    certain = Math.min(certain, sizeOf((versions[i - 1] as Version).content));
    if (step === 'append' && isPart(found, whole, certain)) return true;
    if (step === 'rewrite' && isPart(found, whole, 0)) return true;
    const before = bytesOf((versions[i - 1] as Version).content);
    // The rest of the last block is zeroed first.
    const uncut = step === 'truncate' && found.length === before.length;
    if (uncut && isPart(found, before, whole.length)) return true;
    if (step === 'overwrite' && isMixed(found, before, whole)) return true;
  }
  return false;
}

/** Whether `found` begins as `whole` does; from `certain` on it may be shorter, and have zeros. */
function isPart(found: Buffer, whole: Buffer, certain: number): boolean {
  if (found.length < certain || found.length > whole.length) return false;
  return found.every((byte, i) => byte === whole[i] || (i >= certain && byte === 0));
}

function isMixed(found: Buffer, a: Buffer, b: Buffer): boolean {
  if (found.length !== a.length || found.length !== b.length) return false;
  return found.every((byte, i) => byte === a[i] || byte === b[i]);
}

/** What is wrong with `found`, in a few words. */
export function describe(found: Buffer, versions: readonly Version[]): string {
  const sizes = versions.map(({ content, step }) => `${step} ${sizeOf(content)}`).join(', ');
  const zeros = found.reduce((sum, byte) => sum + (byte === 0 ? 1 : 0), 0);
  return `${found.length} bytes, ${zeros} of them zero; expected: ${sizes}`;
}
