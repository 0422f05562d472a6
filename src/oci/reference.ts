// Names of images: `registry/repository:tag@digest`, and what a short name stands for.
// Follows: distribution/reference (grammar and docker.io defaults), as containers/image uses it.

import { isDigest } from './digest.js';
import { RegistryError } from './errors.js';

export interface Reference {
  /** Host, with the port where one is named: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly registry: string;
  readonly repository: string;
  readonly tag?: string;
  /** `sha256:HEX` or `sha512:HEX`; counts more than the tag. */
  readonly digest?: string;
}

const COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?';
const REGISTRY = new RegExp(
  String.raw`^(?:${LABEL}(?:\.${LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`,
);

/** What names docker.io's first-party images: `debian` is `docker.io/library/debian`. */
const DEFAULT_REGISTRY = 'docker.io';

/**
 * Reads a name as `docker pull` and `podman pull` do; `docker://` and `oci://` in front are skipped.
 * A name without tag and digest gets the tag `latest`.
 *
 * @throws RegistryError `refused` for what is no name
 */
export function parseReference(text: string): Reference {
  const bare = text.replace(/^(?:docker|oci):\/\//, '');
  const { name, tag, digest } = splitName(text, bare);
  const { registry, repository } = splitRegistry(name);
  if (registry.length > 255 || !REGISTRY.test(registry)) {
    throw bad(text, `${registry} is no registry host`);
  }
  if (repository === '') throw bad(text, 'no repository is named');
  if (repository.length > 255) throw bad(text, 'the repository name is longer than 255 characters');
  const wrong = repository.split('/').find((part) => !COMPONENT.test(part));
  if (wrong !== undefined) {
    const hint = /[A-Z]/.test(wrong) ? 'repository names are in lower case' : 'not allowed there';
    throw bad(text, `'${wrong}': ${hint}`);
  }
  return {
    registry,
    repository,
    ...(tag !== undefined || digest === undefined ? { tag: tag ?? 'latest' } : {}),
    ...(digest !== undefined ? { digest } : {}),
  };
}

/** True when the name says which registry it means. */
export function namesRegistry(text: string): boolean {
  const bare = text.replace(/^(?:docker|oci):\/\//, '');
  const slash = bare.indexOf('/');
  return slash > 0 && looksLikeHost(bare.slice(0, slash));
}

/** The name in full, as `parseReference` reads it. */
export function formatReference(ref: Reference): string {
  const tag = ref.tag === undefined ? '' : `:${ref.tag}`;
  const digest = ref.digest === undefined ? '' : `@${ref.digest}`;
  return `${ref.registry}/${ref.repository}${tag}${digest}`;
}

/** The same repository, another manifest: by digest alone. */
export function withDigest(ref: Reference, digest: string): Reference {
  return { registry: ref.registry, repository: ref.repository, digest };
}

/** The same repository, another manifest: by tag alone. */
export function withTag(ref: Reference, tag: string): Reference {
  return { registry: ref.registry, repository: ref.repository, tag };
}

function splitName(text: string, bare: string): { name: string; tag?: string; digest?: string } {
  let name = bare;
  let digest: string | undefined;
  const at = name.indexOf('@');
  if (at >= 0) {
    digest = name.slice(at + 1);
    name = name.slice(0, at);
    if (!isDigest(digest)) throw bad(text, `'${digest}' is no sha256 or sha512 digest`);
  }
  let tag: string | undefined;
  const colon = name.lastIndexOf(':');
  if (colon > name.lastIndexOf('/')) {
    tag = name.slice(colon + 1);
    name = name.slice(0, colon);
    if (!TAG.test(tag)) throw bad(text, `'${tag}' is no tag`);
  }
  return {
    name,
    ...(tag !== undefined ? { tag } : {}),
    ...(digest !== undefined ? { digest } : {}),
  };
}

function splitRegistry(name: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  let registry = DEFAULT_REGISTRY;
  let repository = name;
  if (slash >= 0 && looksLikeHost(name.slice(0, slash))) {
    registry = name.slice(0, slash);
    repository = name.slice(slash + 1);
  }
  if (registry === 'index.docker.io') registry = DEFAULT_REGISTRY;
  if (registry === DEFAULT_REGISTRY && !repository.includes('/') && repository !== '') {
    repository = `library/${repository}`;
  }
  return { registry, repository };
}

/** The first part of a name is a host when it could be no part of a repository, or is localhost. */
function looksLikeHost(part: string): boolean {
  return /[.:[\]A-Z]/.test(part) || part === 'localhost';
}

function bad(text: string, why: string): RegistryError {
  return new RegistryError('refused', `'${text}' is no image name: ${why}`);
}
