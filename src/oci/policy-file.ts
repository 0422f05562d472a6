// policy.json: which requirements an image must meet.
// Read by policy.ts before anything of an image is used.
// Follows: containers-policy.json(5), as strictly as containers/image reads it: what is not understood is no permission.

import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { shown } from './digest.js';
import { RegistryError } from './errors.js';
import { parseReference, type Reference } from './reference.js';

export type Requirement =
  | { type: 'insecureAcceptAnything' }
  | { type: 'reject' }
  | { type: 'signedBy' }
  | SigstoreSigned;

export interface SigstoreSigned {
  type: 'sigstoreSigned';
  /** PEM, one public key each; a signature by one of them is enough. */
  keys: Array<() => Buffer>;
  identity: Identity;
}

/** What the name in a signature must be. */
export type Identity =
  | { type: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { type: 'exactReference'; reference: string }
  | { type: 'exactRepository'; repository: string }
  | { type: 'remapIdentity'; prefix: string; signedPrefix: string };

export interface Policy {
  path: string;
  fallback: Requirement[];
  /** By scope, of the transport `docker`. */
  scopes: Map<string, Requirement[]>;
}

/**
 * @param file the only one, where the user named it; else the user's, else the system's
 * @returns undefined when there is none
 * @throws RegistryError `policy` for a file that cannot be read or understood
 */
export function loadPolicy(file: string | undefined, env: NodeJS.ProcessEnv): Policy | undefined {
  const user = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  const paths =
    file === undefined
      ? [join(user, 'containers/policy.json'), '/etc/containers/policy.json']
      : [file];
  for (const path of paths) {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (file === undefined && (code === 'ENOENT' || code === 'ENOTDIR')) continue;
      throw new RegistryError('policy', `${path}: ${(cause as Error).message}`, { cause });
    }
    return parsePolicy(path, text);
  }
  return undefined;
}

/** The requirements for an image: those of the narrowest scope, else of the transport, else of all. */
export function requirementsFor(policy: Policy, ref: Reference): Requirement[] {
  for (const scope of scopesOf(ref)) {
    const found = policy.scopes.get(scope);
    if (found !== undefined) return found;
  }
  return policy.scopes.get('') ?? policy.fallback;
}

/** From the image itself over its namespaces and its host to the domains of the host. */
function* scopesOf(ref: Reference): Generator<string> {
  let name = `${ref.registry}/${ref.repository}`;
  yield ref.digest === undefined ? `${name}:${ref.tag}` : `${name}@${ref.digest}`;
  for (;;) {
    yield name;
    const slash = name.lastIndexOf('/');
    if (slash < 0) break;
    name = name.slice(0, slash);
  }
  let domain = name.replace(/:[0-9]+$/, '');
  for (let dot = domain.indexOf('.'); dot >= 0; dot = domain.indexOf('.')) {
    domain = domain.slice(dot + 1);
    yield `*.${domain}`;
  }
}

function parsePolicy(path: string, text: string): Policy {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw bad(path, `it is no JSON: ${(cause as Error).message}`);
  }
  const fields = exactly(document, ['default', 'transports'], path, 'the file');
  const fallback = requirements(fields['default'], path, 'default');
  const transports = objectOf(fields['transports'] ?? {}, path, 'transports');
  const scopes = new Map<string, Requirement[]>();
  for (const [scope, list] of Object.entries(
    objectOf(transports['docker'] ?? {}, path, 'docker'),
  )) {
    scopes.set(scope, requirements(list, path, `docker ${shown(scope)}`));
  }
  return { path, fallback, scopes };
}

function requirements(value: unknown, path: string, where: string): Requirement[] {
  // An empty list would be met by everything.
  if (!Array.isArray(value) || value.length === 0)
    throw bad(path, `${where}: no list of requirements`);
  return value.map((entry) => requirement(entry, path, where));
}

function requirement(value: unknown, path: string, where: string): Requirement {
  const { type } = objectOf(value, path, where);
  switch (type) {
    case 'insecureAcceptAnything':
    case 'reject':
      exactly(value, ['type'], path, where);
      return { type };
    case 'signedBy':
      return { type };
    case 'sigstoreSigned':
      return sigstoreSigned(value, path, where);
    default:
      throw bad(path, `${where}: the requirement ${shown(type)} is not known`);
  }
}

function sigstoreSigned(value: unknown, path: string, where: string): SigstoreSigned {
  const known = ['type', 'keyPath', 'keyPaths', 'keyData', 'keyDatas', 'signedIdentity'];
  const unsupported = [
    'fulcio',
    'pki',
    'rekorPublicKeyPath',
    'rekorPublicKeyPaths',
    'rekorPublicKeyData',
    'rekorPublicKeyDatas',
  ];
  const fields = exactly(value, [...known, ...unsupported], path, where);
  const missing = unsupported.find((key) => fields[key] !== undefined);
  if (missing !== undefined) {
    throw bad(
      path,
      `${where}: Varve does not support ${missing}; it verifies signatures by public keys`,
    );
  }
  const texts = (key: string): string[] => {
    const found = fields[key];
    if (found === undefined) return [];
    const list = Array.isArray(found) ? found : [found];
    if (list.length === 0 || list.some((text) => typeof text !== 'string' || text === '')) {
      throw bad(path, `${where}: ${key} is no text`);
    }
    return list;
  };
  const files = [...texts('keyPath'), ...texts('keyPaths')];
  const inline = [...texts('keyData'), ...texts('keyDatas')];
  const given = ['keyPath', 'keyPaths', 'keyData', 'keyDatas'].filter(
    (key) => fields[key] !== undefined,
  );
  if (given.length !== 1) {
    throw bad(path, `${where}: one of keyPath, keyPaths, keyData and keyDatas must be there`);
  }
  return {
    type: 'sigstoreSigned',
    keys: [
      ...files.map((file) => () => readKey(path, file)),
      ...inline.map((text) => () => Buffer.from(text, 'base64')),
    ],
    identity: identity(fields['signedIdentity'] ?? { type: 'matchRepoDigestOrExact' }, path, where),
  };
}

function readKey(path: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw bad(path, `the key ${file} cannot be read: ${(cause as Error).message}`);
  }
}

function identity(value: unknown, path: string, where: string): Identity {
  const { type } = objectOf(value, path, where);
  const text = (keys: readonly string[], key: string): string => {
    const found = exactly(value, ['type', ...keys], path, where)[key];
    if (typeof found !== 'string' || found === '') throw bad(path, `${where}: ${key} is no text`);
    return found;
  };
  switch (type) {
    case 'matchExact':
    case 'matchRepoDigestOrExact':
    case 'matchRepository':
      exactly(value, ['type'], path, where);
      return { type };
    case 'exactReference': {
      const reference = text(['dockerReference'], 'dockerReference');
      return { type, reference: normal(reference, path) };
    }
    case 'exactRepository': {
      const { registry, repository } = parsed(text(['dockerRepository'], 'dockerRepository'), path);
      return { type, repository: `${registry}/${repository}` };
    }
    case 'remapIdentity': {
      const keys = ['prefix', 'signedPrefix'];
      return { type, prefix: text(keys, 'prefix'), signedPrefix: text(keys, 'signedPrefix') };
    }
    default:
      throw bad(path, `${where}: the identity ${shown(type)} is not known`);
  }
}

function normal(text: string, path: string): string {
  const { registry, repository, tag, digest } = parsed(text, path);
  return `${registry}/${repository}${digest === undefined ? `:${tag}` : `@${digest}`}`;
}

function parsed(text: string, path: string): Reference {
  try {
    return parseReference(text);
  } catch (cause) {
    throw bad(path, (cause as Error).message);
  }
}

function exactly(
  value: unknown,
  keys: readonly string[],
  path: string,
  where: string,
): Record<string, unknown> {
  const fields = objectOf(value, path, where);
  const unknown = Object.keys(fields).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw bad(path, `${where}: ${shown(unknown)} is not known`);
  return fields;
}

function objectOf(value: unknown, path: string, where: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw bad(path, `${where}: no object`);
}

function bad(path: string, why: string): RegistryError {
  return new RegistryError('policy', `${path}: ${why}`);
}
