// Digests of content: `sha256:HEX` and `sha512:HEX`, nothing else.
// Follows: OCI image specification 1.1, descriptor.md, "Digests".

import { createHash, type Hash } from 'node:crypto';
import { RegistryError } from './errors.js';

const FORM = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isDigest(text: unknown): text is string {
  return typeof text === 'string' && FORM.test(text);
}

/** @throws RegistryError `wrong` for anything that is no SHA-256 or SHA-512 digest */
export function checkDigest(text: unknown, what: string): string {
  if (isDigest(text)) return text;
  throw new RegistryError(
    'wrong',
    `${what}: ${shown(text)} is no digest that Varve accepts (sha256 or sha512, in lower case)`,
  );
}

/** A hash of the algorithm that the digest names. */
export function hasherOf(digest: string): Hash {
  return createHash(digest.slice(0, digest.indexOf(':')));
}

export function digestOf(bytes: Uint8Array, like = 'sha256:'): string {
  const algorithm = like.slice(0, like.indexOf(':'));
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** @throws RegistryError `wrong` when the bytes have another digest */
export function verifyDigest(bytes: Uint8Array, digest: string, what: string): void {
  const found = digestOf(bytes, digest);
  if (found !== digest) {
    throw new RegistryError('wrong', `${what}: the registry sent ${found}, not ${digest}`);
  }
}

/** Text of a stranger, short and without control characters. What was to be text may be any JSON, with a `toString` that is no function. */
export function shown(text: unknown): string {
  const isJson = typeof text === 'object' && !(text instanceof Error);
  const clean = (isJson ? JSON.stringify(text) : String(text)).replaceAll(
    /[\u0000-\u001f\u007f-\u009f]/g,
    '?',
  );
  return clean.length > 120 ? `${clean.slice(0, 117)}...` : clean;
}
