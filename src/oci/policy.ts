// Whether an image may be used: policy.json decides, signatures prove.
// Called by registry.ts for every image, after its manifest was fetched and before anything that it names is.
// Follows: containers-policy.json(5) for the transport `docker`.

import type { KeyObject } from 'node:crypto';
import { RegistryError } from './errors.js';
import type { Descriptor } from './manifest.js';
import {
  type Identity,
  loadPolicy,
  type Policy,
  requirementsFor,
  type SigstoreSigned,
} from './policy-file.js';
import { formatReference, parseReference, type Reference } from './reference.js';
import {
  type Attachments,
  attachedSignatures,
  type Claim,
  claimOf,
  claimText,
  publicKey,
  type Signature,
} from './sigstore.js';

export interface PolicyOptions {
  /** The index from which the manifest was chosen: a signature of it is one of all that it lists. */
  index?: Descriptor;
  /** The only policy; by default the user's, else the system's. Without any, every image is accepted. */
  policyFile?: string;
  env: NodeJS.ProcessEnv;
}

/**
 * @param ref the name by which the image was asked for: what a signature must confirm
 * @param manifest the image's own, its digest verified
 * @returns true when a signature was demanded, and is there: what the manifest does not vouch for must not be used then
 * @throws RegistryError `policy` when the image may not be used; those of fetching signatures
 */
export async function checkPolicy(
  registry: Attachments,
  ref: Reference,
  manifest: Descriptor,
  options: PolicyOptions,
): Promise<boolean> {
  const policy = loadPolicy(options.policyFile, options.env);
  if (policy === undefined) return false;
  const digests = [manifest, options.index].flatMap((one) =>
    one === undefined ? [] : [one.digest],
  );
  const signatures = once(async () => {
    const found = digests.map((digest) => attachedSignatures(registry, ref, digest));
    return (await Promise.all(found)).flat();
  });
  let signed = false;
  // All must be met.
  for (const requirement of requirementsFor(policy, ref)) {
    switch (requirement.type) {
      case 'insecureAcceptAnything':
        break;
      case 'reject':
        throw refusal(policy, ref, 'it is rejected');
      case 'signedBy':
        throw refusal(
          policy,
          ref,
          'a GPG signature is required (signedBy), which Varve does not verify',
        );
      case 'sigstoreSigned':
        checkSigned(policy, ref, digests, requirement, await signatures());
        signed = true;
    }
  }
  return signed;
}

function checkSigned(
  policy: Policy,
  ref: Reference,
  digests: readonly string[],
  requirement: SigstoreSigned,
  signatures: readonly Signature[],
): void {
  const keys = requirement.keys.map((read): KeyObject => {
    try {
      return publicKey(read());
    } catch (cause) {
      if (cause instanceof RegistryError) throw cause;
      throw new RegistryError(
        'policy',
        `${policy.path}: no public key: ${(cause as Error).message}`,
        {
          cause,
        },
      );
    }
  });
  if (signatures.length === 0) throw refusal(policy, ref, 'it has no sigstore signature');
  const claims = signatures.flatMap((signature) => claimOf(signature, keys) ?? []);
  if (claims.length === 0) {
    throw refusal(policy, ref, 'none of its signatures is by a key that is accepted');
  }
  if (
    !claims.some(
      (claim) => digests.includes(claim.digest) && names(requirement.identity, claim, ref),
    )
  ) {
    throw refusal(policy, ref, `it is signed as another image: ${claimText(claims[0]!)}`);
  }
}

/** Whether the name in a signature is the one that it must be. */
function names(identity: Identity, claim: Claim, ref: Reference): boolean {
  let signed: Reference;
  try {
    signed = parseReference(claim.reference);
  } catch {
    return false;
  }
  // Without a tag or digest a name is that of a repository, not of its `latest`.
  const bare = !/@|:[^/]*$/.test(claim.reference);
  const signedName = bare ? nameOf(signed) : exactName(signed);
  switch (identity.type) {
    case 'matchExact':
      return signedName === exactName(ref);
    case 'matchRepoDigestOrExact':
      return matches(ref, ref, signed, signedName);
    case 'matchRepository':
      return nameOf(signed) === nameOf(ref);
    case 'exactReference':
      return signedName === identity.reference;
    case 'exactRepository':
      return nameOf(signed) === identity.repository;
    case 'remapIdentity':
      return matches(
        ref,
        remapped(ref, identity.prefix, identity.signedPrefix),
        signed,
        signedName,
      );
  }
}

function matches(
  asked: Reference,
  expected: Reference,
  signed: Reference,
  signedName: string,
): boolean {
  return asked.digest === undefined
    ? signedName === exactName(expected)
    : nameOf(signed) === nameOf(expected);
}

function remapped(ref: Reference, prefix: string, signedPrefix: string): Reference {
  const name = nameOf(ref);
  if (name !== prefix && !name.startsWith(`${prefix}/`)) return ref;
  const { registry, repository } = parseReference(signedPrefix + name.slice(prefix.length));
  return { ...ref, registry, repository };
}

function nameOf(ref: Reference): string {
  return `${ref.registry}/${ref.repository}`;
}

/** As policies and signatures write it: a digest takes the place of the tag. */
function exactName(ref: Reference): string {
  return `${nameOf(ref)}${ref.digest === undefined ? `:${ref.tag}` : `@${ref.digest}`}`;
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let promise: Promise<T> | undefined;
  return () => (promise ??= work());
}

function refusal(policy: Policy, ref: Reference, why: string): RegistryError {
  return new RegistryError('policy', `${formatReference(ref)}: ${why}; ${policy.path} demands it`);
}
