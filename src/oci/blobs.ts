// Reading blobs: whole ones, resumed where they broke off, and parts of them.
// Called by registry.ts for one endpoint after the other; nothing is believed that has another digest.
// Follows: OCI distribution specification 1.1 (pulling blobs), RFC 9110 section 14 (ranges).

import type { Hash } from 'node:crypto';
import type { Call, Client } from './client.js';
import { hasherOf } from './digest.js';
import type { Endpoint } from './endpoint.js';
import { RegistryError } from './errors.js';
import type { Descriptor } from './manifest.js';
import type { Answer } from './transport.js';

/** So much of a blob is read and thrown away, in bytes and milliseconds, to reach a part of it. */
const SKIP_BYTES = 256 * 1024 * 1024;

/** The state of a download: how far it is, and the digest so far. */
export interface Download {
  at: number;
  hash: Hash;
  /** The last piece, held back until the digest is known. */
  last?: Uint8Array;
}

export function beginDownload(descriptor: Descriptor): Download {
  return { at: 0, hash: hasherOf(descriptor.digest) };
}

/**
 * Goes on with a download. Pieces come as they arrive, but the last one only when size and digest are right.
 *
 * @throws RegistryError `wrong`, and those of `client.once`; the download may then be continued elsewhere
 */
export async function* readOn(
  client: Client,
  endpoint: Endpoint,
  descriptor: Descriptor,
  download: Download,
  call: Pick<Call, 'what' | 'signal'>,
): AsyncGenerator<Uint8Array, void, void> {
  const { digest, size } = descriptor;
  const { what } = call;
  if (download.at < size || size === 0) {
    const from = download.at;
    const answer = await client.once(endpoint, {
      method: 'GET',
      to: `blobs/${digest}`,
      actions: 'pull',
      headers: from === 0 ? {} : { range: `bytes=${from}-` },
      ...call,
    });
    const told = answer.number('content-length');
    const offset = await startOf(answer, from, size, what);
    if (told !== undefined && told !== size - offset) {
      await answer.discard();
      throw new RegistryError(
        'wrong',
        `${what}: the registry has ${told} bytes, not ${size - offset}`,
      );
    }
    let position = offset;
    for await (const piece of answer.pieces()) {
      const fresh = piece.subarray(Math.max(0, from - position));
      position += piece.length;
      if (fresh.length === 0) continue;
      if (position > size) {
        throw new RegistryError('wrong', `${what}: the registry sends more than ${size} bytes`);
      }
      download.hash.update(fresh);
      download.at += fresh.length;
      if (download.last !== undefined) yield download.last;
      download.last = fresh;
    }
    if (position < size) {
      throw new RegistryError(
        'network',
        `${what}: it broke off after ${position} of ${size} bytes`,
      );
    }
  }
  const found = `${digest.slice(0, digest.indexOf(':'))}:${download.hash.copy().digest('hex')}`;
  if (found !== digest) {
    throw new RegistryError('wrong', `${what}: the registry sent ${found}, not ${digest}`);
  }
  if (download.last !== undefined) yield download.last;
}

/**
 * A part of a blob, of exactly `length` bytes. It is not verified: only the whole has a digest.
 *
 * @param call `to` is where the blob lies
 * @param patience milliseconds for what lies in front, when the registry sends the whole
 * @returns also where they came from, after redirects, and how many bytes in front came that were not asked for
 * @throws RegistryError `range` when the registry sends no parts and the whole takes too long
 */
export async function readRange(
  client: Client,
  endpoint: Endpoint,
  descriptor: Descriptor,
  at: number,
  length: number,
  patience: number,
  call: Pick<Call, 'to' | 'what' | 'signal'>,
): Promise<{ bytes: Buffer; from: URL; passed: number }> {
  const { size } = descriptor;
  const { what } = call;
  const answer = await client.once(endpoint, {
    method: 'GET',
    actions: 'pull',
    headers: { range: `bytes=${at}-${at + length - 1}` },
    ...call,
  });
  const offset = await startOf(answer, at, size, what);
  const told = lengthOf(answer);
  // 206 has these bytes or, from careless servers, all from here on; fewer would never be enough.
  if (told !== undefined && told < at + length - offset) {
    await answer.discard();
    throw new RegistryError('wrong', `${what}: the registry sends ${told} bytes of ${length}`);
  }
  if (at - offset > SKIP_BYTES) {
    await answer.discard();
    throw noRanges(what);
  }
  const bytes = Buffer.allocUnsafe(length);
  const begun = performance.now();
  let position = offset;
  for await (const piece of answer.pieces()) {
    const fresh = piece.subarray(Math.max(0, at - position), at + length - position);
    if (fresh.length > 0) bytes.set(fresh, Math.max(position, at) - at);
    position += piece.length;
    // More is coming that nobody wants; what has ended is read to its end, so that the connection lives on.
    if (position >= at + length && (told === undefined || position < offset + told))
      return { bytes, from: answer.url, passed: at - offset };
    if (position < at && performance.now() - begun > patience) throw noRanges(what);
  }
  if (position >= at + length) return { bytes, from: answer.url, passed: at - offset };
  throw new RegistryError(
    'network',
    `${what}: it broke off after ${Math.max(0, position - at)} of ${length} bytes`,
  );
}

/** The position of the first byte of an answer: asked for, or 0 from a registry without ranges. */
async function startOf(answer: Answer, at: number, size: number, what: string): Promise<number> {
  if (answer.status === 200) return 0;
  const range = /^bytes ([0-9]{1,15})-([0-9]{1,15})\/([0-9]{1,15}|\*)$/.exec(
    answer.header('content-range') ?? '',
  );
  if (
    answer.status !== 206 ||
    range === null ||
    Number(range[1]) !== at ||
    (range[3] !== '*' && Number(range[3]) !== size)
  ) {
    await answer.discard();
    throw new RegistryError(
      'wrong',
      `${what}: the registry answers with another part than bytes ${at} and on of ${size}`,
    );
  }
  return at;
}

/** Bytes of the body, as far as somebody has said. */
function lengthOf(answer: Answer): number | undefined {
  const range = /^bytes ([0-9]{1,15})-([0-9]{1,15})\//.exec(answer.header('content-range') ?? '');
  const told = answer.number('content-length');
  return told ?? (range === null ? undefined : Number(range[2]) - Number(range[1]) + 1);
}

function noRanges(what: string): RegistryError {
  return new RegistryError(
    'range',
    `${what}: the registry gives no parts of blobs, and the whole takes too long; pull the image instead`,
  );
}
