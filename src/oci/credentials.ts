// Where names and passwords for registries are kept, and how they are looked up.
// Asked by auth.ts when a registry wants to know who is there.
// Follows: containers-auth.json(5), docker's config.json and its credential helper protocol.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { shown } from './digest.js';
import { RegistryError } from './errors.js';

export interface Credentials {
  username?: string;
  password?: string;
  /** A refresh token, with which the token service gives access tokens. */
  identityToken?: string;
  /** A bearer token to be sent as it is. */
  registryToken?: string;
}

/** docker.io's entries stand under the address of its first version. */
const DOCKER_HUB = 'https://index.docker.io/v1/';
const HELPER_TIMEOUT = 60_000;
const HELPER_OUTPUT = 1024 * 1024;

interface AuthFile {
  auths?: Record<string, { auth?: string; identitytoken?: string; registrytoken?: string }>;
  credHelpers?: Record<string, string>;
  credsStore?: string;
}

export interface Search {
  /** Host, with its port. */
  registry: string;
  /** More specific entries of auth.json are for this alone. */
  repository: string;
  /** The only file to be asked, where the user named one. */
  authFile?: string;
  /** HOME, XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG, REGISTRY_AUTH_FILE, PATH. */
  env: NodeJS.ProcessEnv;
  /** registries.conf's list: `containers-auth.json` are the files, other names are helpers. */
  helpers: readonly string[];
}

/**
 * @returns undefined when there are none: one is anonymous
 * @throws RegistryError `auth` for a file that cannot be understood, or a helper that fails
 */
export async function findCredentials(search: Search): Promise<Credentials | undefined> {
  for (const helper of search.helpers) {
    const found =
      helper === 'containers-auth.json'
        ? await fromFiles(search)
        : await askHelper(helper, search.registry, search.env);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function fromFiles(search: Search): Promise<Credentials | undefined> {
  const { authFile, env } = search;
  for (const path of authFiles(authFile, env)) {
    const file = readAuthFile(path);
    if (file === undefined) continue;
    const found = await lookUp(file, path, search);
    if (found !== undefined) return found;
  }
  return undefined;
}

function authFiles(authFile: string | undefined, env: NodeJS.ProcessEnv): string[] {
  const named = authFile ?? (env['REGISTRY_AUTH_FILE'] || undefined);
  if (named !== undefined) return [named];
  const home = env['HOME'] || homedir();
  const runtime = env['XDG_RUNTIME_DIR'];
  return [
    runtime
      ? `${runtime}/containers/auth.json`
      : `/run/containers/${process.getuid?.() ?? 0}/auth.json`,
    join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'containers/auth.json'),
    join(env['DOCKER_CONFIG'] || join(home, '.docker'), 'config.json'),
  ];
}

function readAuthFile(path: string): AuthFile | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined;
    throw new RegistryError('auth', `${path}: ${(error as Error).message}`, { cause: error });
  }
  try {
    const file: unknown = text.trim() === '' ? {} : JSON.parse(text);
    if (typeof file !== 'object' || file === null) throw new Error('it is no object');
    return file as AuthFile;
  } catch (cause) {
    throw new RegistryError('auth', `${path} is no JSON file of credentials`, { cause });
  }
}

/** The order of containers/image: a helper of this registry, entries from the most specific one, then the helper for all. */
async function lookUp(
  file: AuthFile,
  path: string,
  { registry, repository, env }: Search,
): Promise<Credentials | undefined> {
  const hosts =
    registry === 'docker.io' ? [DOCKER_HUB, 'docker.io', 'index.docker.io'] : [registry];
  for (const host of hosts) {
    const helper = file.credHelpers?.[host];
    if (helper === undefined) continue;
    const found = await askHelper(helper, host, env);
    if (found !== undefined) return found;
  }
  const entry = entryOf(file.auths ?? {}, hosts, repository);
  const decoded = entry === undefined ? undefined : decode(entry, path, registry);
  if (decoded !== undefined) return decoded;
  if (file.credsStore) {
    for (const host of hosts) {
      const found = await askHelper(file.credsStore, host, env);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

type Entry = NonNullable<AuthFile['auths']>[string];

function entryOf(
  auths: Record<string, Entry>,
  hosts: readonly string[],
  repository: string,
): Entry | undefined {
  const parts = repository.split('/');
  for (let length = parts.length; length > 0; length--) {
    for (const host of hosts) {
      const found = auths[`${host}/${parts.slice(0, length).join('/')}`];
      if (found !== undefined) return found;
    }
  }
  for (const host of hosts) if (auths[host] !== undefined) return auths[host];
  // docker login of old times wrote the address of the registry, with a scheme and a version.
  const legacy = Object.keys(auths).find(
    (key) =>
      hosts.includes(key.replace(/^https?:\/\//, '').replace(/\/.*$/, '')) &&
      /^https?:\/\//.test(key),
  );
  return legacy === undefined ? undefined : auths[legacy];
}

function decode(entry: Entry, path: string, registry: string): Credentials | undefined {
  if (entry.registrytoken) return { registryToken: entry.registrytoken };
  const text = entry.auth ? Buffer.from(entry.auth, 'base64').toString('utf8') : '';
  const colon = text.indexOf(':');
  if (text !== '' && colon < 0) {
    throw new RegistryError(
      'auth',
      `${path}: the entry of ${registry} is no base64 of name:password`,
    );
  }
  const username = text.slice(0, Math.max(0, colon));
  const password = text.slice(colon + 1).replace(/\0+$/, '');
  if (entry.identitytoken) return { username, identityToken: entry.identitytoken };
  return text === '' ? undefined : { username, password };
}

/** `docker-credential-NAME get`: the host on stdin, JSON on stdout. */
async function askHelper(
  name: string,
  host: string,
  env: NodeJS.ProcessEnv,
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  if (typeof name !== 'string' || !/^[A-Za-z0-9._-]+$/.test(name)) {
    throw new RegistryError('auth', `'${shown(name)}' is no name of a credential helper`);
  }
  const { code, output, errors } = await runHelper(program, host, env);
  if (code !== 0) {
    if (/credentials not found/i.test(output + errors)) return undefined;
    const why = shown((output.trim() || errors.trim()).split('\n')[0]);
    throw new RegistryError('auth', `${program} failed for ${host}: ${why || `exit code ${code}`}`);
  }
  let answer: { Username?: unknown; Secret?: unknown };
  try {
    answer = JSON.parse(output);
  } catch (cause) {
    throw new RegistryError(
      'auth',
      `${program} answered for ${host} with something that is no JSON`,
      {
        cause,
      },
    );
  }
  const { Username: username, Secret: secret } = answer;
  if (typeof username !== 'string' || typeof secret !== 'string') return undefined;
  if (username === '<token>') return { identityToken: secret };
  return username === '' && secret === '' ? undefined : { username, password: secret };
}

function runHelper(
  program: string,
  host: string,
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; output: string; errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env, stdio: 'pipe' });
    // spawn's own timeout would keep the process alive when there is no such program.
    const timer = setTimeout(() => child.kill('SIGKILL'), HELPER_TIMEOUT).unref();
    const texts = { output: '', errors: '' };
    const collect = (key: 'output' | 'errors') => (piece: string) => {
      texts[key] += piece;
      if (texts[key].length > HELPER_OUTPUT) child.kill('SIGKILL');
    };
    child.stdout.setEncoding('utf8').on('data', collect('output'));
    child.stderr.setEncoding('utf8').on('data', collect('errors'));
    child.stdin.on('error', () => {});
    child.stdin.end(host);
    child.on('error', (cause: NodeJS.ErrnoException) => {
      const hint = cause.code === 'ENOENT' ? 'it is not installed (or not on PATH)' : cause.message;
      reject(new RegistryError('auth', `cannot ask ${program} for ${host}: ${hint}`, { cause }));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, ...texts });
    });
  });
}
