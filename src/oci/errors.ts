// The one error of this room: what went wrong between here and a registry.
// Thrown by every file of oci/; cli/ turns it into a line for people, the loader into a decision.

/**
 * - `auth`: the registry wants other credentials (401, 403)
 * - `absent`: there is no such repository, manifest or blob (404)
 * - `refused`: the registry refused the request, or Varve refuses what it was asked to do
 * - `busy`: the registry cannot answer now (429, 5xx), also not after all attempts
 * - `network`: no connection, no answer, or it broke off, also after all attempts
 * - `wrong`: other bytes than the digest names, or something that is no manifest, token or answer
 * - `range`: the registry gives no parts of blobs, and the whole would take too long
 * - `policy`: policy.json or a signature forbids it
 * - `limit`: more than is accepted from somebody who is not trusted
 */
export type RegistryErrorKind =
  | 'auth'
  | 'absent'
  | 'refused'
  | 'busy'
  | 'network'
  | 'wrong'
  | 'range'
  | 'policy'
  | 'limit';

export interface RegistryErrorDetails {
  /** The HTTP status that told it. */
  status?: number;
  /** Seconds after which the registry wants to be asked again. */
  retryAfter?: number;
  cause?: unknown;
}

export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly kind: RegistryErrorKind;
  readonly status?: number;
  readonly retryAfter?: number;

  /** @param message one line: what, where, and what to do where there is something */
  constructor(kind: RegistryErrorKind, message: string, details: RegistryErrorDetails = {}) {
    // Names, registries and their answers are strangers' text: no line breaks, no codes for terminals.
    const line = message.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?');
    super(line, details.cause === undefined ? undefined : { cause: details.cause });
    this.kind = kind;
    if (details.status !== undefined) this.status = details.status;
    if (details.retryAfter !== undefined) this.retryAfter = details.retryAfter;
  }

  /** The same request may succeed later, without anybody changing something. */
  get passing(): boolean {
    return this.kind === 'busy' || this.kind === 'network';
  }
}
