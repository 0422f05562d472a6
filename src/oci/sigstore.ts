// Sigstore signatures as cosign and podman attach them: found by a tag, verified by public keys.
// Used by policy.ts.
// Follows: cosign SIGNATURE_SPEC.md, the "simple signing" payload of containers/image (signature/internal/sigstore_payload.go).

import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { shown } from './digest.js';
import { RegistryError } from './errors.js';
import { type Descriptor, type Index, isIndex, type Manifest, parseJson } from './manifest.js';
import { type Reference, withTag } from './reference.js';

/** What signatures are fetched from: a Registry. */
export interface Attachments {
  manifest(ref: Reference): Promise<{ manifest: Manifest | Index }>;
  blob(ref: Reference, descriptor: Descriptor): Promise<AsyncIterable<Uint8Array>>;
}

/** What somebody has signed, before anybody has verified it. */
export interface Signature {
  payload: Buffer;
  signature: Buffer;
}

/** What a verified signature says: this manifest is that image. */
export interface Claim {
  digest: string;
  /** The name of the image, as the signer wrote it. */
  reference: string;
}

const PAYLOAD_TYPE = 'application/vnd.dev.cosign.simplesigning.v1+json';
const ANNOTATION = 'dev.cosignproject.cosign/signature';
const CLAIM_TYPE = 'cosign container image signature';
/** More than anybody has signed an image, and larger than any payload. */
const SIGNATURES = 64;
const PAYLOAD_BYTES = 256 * 1024;

/**
 * All signatures that are attached to a manifest. They are a stranger's until `claimOf` has verified them.
 *
 * @param digest of the manifest
 */
export async function attachedSignatures(
  registry: Attachments,
  ref: Reference,
  digest: string,
): Promise<Signature[]> {
  const at = withTag(ref, `${digest.replace(':', '-')}.sig`);
  let layers: Descriptor[];
  try {
    const { manifest } = await registry.manifest(at);
    layers = isIndex(manifest) ? [] : manifest.layers;
  } catch (error) {
    if (error instanceof RegistryError && error.kind === 'absent') return [];
    throw error;
  }
  const found: Signature[] = [];
  for (const layer of layers.slice(0, SIGNATURES)) {
    const text = layer.annotations?.[ANNOTATION];
    if (layer.mediaType !== PAYLOAD_TYPE || text === undefined || layer.size > PAYLOAD_BYTES)
      continue;
    const pieces: Uint8Array[] = [];
    for await (const piece of await registry.blob(at, layer)) pieces.push(piece);
    found.push({ payload: Buffer.concat(pieces), signature: Buffer.from(text, 'base64') });
  }
  return found;
}

/** @throws Error for what is no public key that signatures are made with */
export function publicKey(pem: Buffer): KeyObject {
  const key = createPublicKey({ key: pem, format: 'pem' });
  const type = key.asymmetricKeyType;
  if (type !== 'ec' && type !== 'rsa' && type !== 'ed25519')
    throw new Error(`a key of the type ${type}`);
  return key;
}

/**
 * What a signature says, when one of the keys has made it.
 *
 * @returns undefined for a signature of somebody else, or of something else
 */
export function claimOf(
  { payload, signature }: Signature,
  keys: readonly KeyObject[],
): Claim | undefined {
  const signed = keys.some((key) => {
    try {
      // ECDSA and RSA (PKCS #1 v1.5) over SHA-256, Ed25519 over the payload itself.
      return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', payload, key, signature);
    } catch {
      return false;
    }
  });
  return signed ? readClaim(payload) : undefined;
}

/** The payload is parsed only after its signature was verified, and must be of the one known form. */
function readClaim(payload: Buffer): Claim | undefined {
  let document: unknown;
  try {
    document = parseJson(payload, 'signature');
  } catch {
    return undefined;
  }
  const { critical } = document as { critical?: Record<string, unknown> };
  if (!hasKeys(critical, ['type', 'image', 'identity'])) return undefined;
  const { type, image, identity } = critical;
  if (type !== CLAIM_TYPE) return undefined;
  if (!hasKeys(image, ['docker-manifest-digest']) || !hasKeys(identity, ['docker-reference'])) {
    return undefined;
  }
  const digest = image['docker-manifest-digest'];
  const reference = identity['docker-reference'];
  if (typeof digest !== 'string' || typeof reference !== 'string') return undefined;
  return { digest, reference };
}

/** Exactly these: a condition that is not understood must not be passed over. */
function hasKeys(value: unknown, keys: readonly string[]): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const found = Object.keys(value);
  return found.length === keys.length && keys.every((key) => found.includes(key));
}

/** For messages. */
export function claimText(claim: Claim): string {
  return `${shown(claim.reference)} (${shown(claim.digest)})`;
}
