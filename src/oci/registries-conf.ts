// registries.conf: where references are looked for, mirrors, short names.
// Read once by a Registry; endpoints.ts makes hosts and repositories of it.
// Follows: containers-registries.conf(5), version 2, with the merging of containers/image 5.

import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { shown } from './digest.js';
import { RegistryError } from './errors.js';

export interface Mirror {
  /** `host[:port][/namespace]`. */
  location: string;
  insecure: boolean;
  /** Which references it is asked for. */
  pull: 'all' | 'digest-only' | 'tag-only';
}

/** One [[registry]] table. */
export interface RegistryRule {
  /** `host[:port][/namespace]` or `*.domain`. */
  prefix: string;
  /** What takes the place of the prefix; empty for nothing. */
  location: string;
  insecure: boolean;
  blocked: boolean;
  mirrors: Mirror[];
}

export interface RegistriesConf {
  /** By prefix. */
  rules: Map<string, RegistryRule>;
  /** Registries in which names without one are looked for; undefined when nobody said. */
  search?: string[];
  shortNames: 'enforcing' | 'permissive' | 'disabled';
  /** Short name -> full name. */
  aliases: Map<string, string>;
  /** In their order; `containers-auth.json` stands for the files. */
  helpers: string[];
}

/**
 * Reads the user's file, else the system's, then the drop-ins of both.
 *
 * @param env HOME, XDG_CONFIG_HOME; CONTAINERS_REGISTRIES_CONF names the only file to be read
 * @throws RegistryError `refused` for a file that cannot be understood; what is absent counts as empty
 */
export function loadRegistriesConf(env: NodeJS.ProcessEnv): RegistriesConf {
  const conf: RegistriesConf = {
    rules: new Map(),
    shortNames: 'permissive',
    aliases: new Map(),
    helpers: ['containers-auth.json'],
  };
  const only = env['CONTAINERS_REGISTRIES_CONF'] || env['REGISTRIES_CONFIG_PATH'];
  if (only) {
    const text = readText(only);
    if (text === undefined)
      throw bad(only, 'it cannot be read (CONTAINERS_REGISTRIES_CONF names it)');
    merge(conf, only, text);
    return conf;
  }
  const user = join(
    env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config'),
    'containers',
  );
  for (const path of [join(user, 'registries.conf'), '/etc/containers/registries.conf']) {
    const text = readText(path);
    if (text === undefined) continue;
    merge(conf, path, text);
    break;
  }
  for (const folder of ['/etc/containers/registries.conf.d', join(user, 'registries.conf.d')]) {
    for (const name of listed(folder)) {
      const path = join(folder, name);
      const text = readText(path);
      if (text !== undefined) merge(conf, path, text);
    }
  }
  return conf;
}

/** The rule with the longest prefix that fits `registry/repository`. */
export function ruleFor(conf: RegistriesConf, name: string): RegistryRule | undefined {
  let best: RegistryRule | undefined;
  for (const rule of conf.rules.values()) {
    if (prefixLength(rule.prefix, name) === undefined) continue;
    if (best === undefined || rule.prefix.length > best.prefix.length) best = rule;
  }
  return best;
}

/** How much of a name a prefix covers; undefined when it does not fit. */
export function prefixLength(prefix: string, name: string): number | undefined {
  if (prefix.startsWith('*.')) {
    const slash = name.indexOf('/');
    const host = slash < 0 ? name : name.slice(0, slash);
    return host.replace(/:[0-9]+$/, '').endsWith(prefix.slice(1)) ? host.length : undefined;
  }
  if (name === prefix || name.startsWith(`${prefix}/`)) return prefix.length;
  return undefined;
}

/** A drop-in replaces whole tables of the same prefix, and single values. */
function merge(conf: RegistriesConf, path: string, text: string): void {
  const file = parseToml(path, text);
  const search = file['unqualified-search-registries'];
  if (search !== undefined) conf.search = textsOf(search, path, 'unqualified-search-registries');
  const mode = file['short-name-mode'];
  if (mode !== undefined) {
    if (mode !== 'enforcing' && mode !== 'permissive' && mode !== 'disabled') {
      throw bad(path, `short-name-mode ${shown(mode)} is not known`);
    }
    conf.shortNames = mode;
  }
  const helpers = file['credential-helpers'];
  if (helpers !== undefined) conf.helpers = textsOf(helpers, path, 'credential-helpers');
  for (const [name, full] of Object.entries(tableOf(file['aliases'] ?? {}, path, 'aliases'))) {
    if (typeof full !== 'string') throw bad(path, `the alias ${shown(name)} is no text`);
    // An empty one takes back what another file has said.
    if (full === '') conf.aliases.delete(name);
    else conf.aliases.set(name, full);
  }
  for (const table of listOf(file['registry'], path, 'registry')) {
    const rule = ruleOf(tableOf(table, path, 'registry'), path);
    conf.rules.set(rule.prefix, rule);
  }
}

function ruleOf(table: Record<string, unknown>, path: string): RegistryRule {
  const location = place(table['location'], path);
  const prefix = place(table['prefix'], path) || location;
  if (prefix === '') throw bad(path, 'a [[registry]] has neither prefix nor location');
  if (location === '' && !prefix.startsWith('*.')) {
    throw bad(path, `[[registry]] ${shown(prefix)} has no location`);
  }
  const digestOnly = flag(table['mirror-by-digest-only'], path, 'mirror-by-digest-only');
  const mirrors = listOf(table['mirror'], path, 'registry.mirror').map((entry): Mirror => {
    const mirror = tableOf(entry, path, 'registry.mirror');
    const pull = mirror['pull-from-mirror'] ?? (digestOnly ? 'digest-only' : 'all');
    if (pull !== 'all' && pull !== 'digest-only' && pull !== 'tag-only') {
      throw bad(path, `pull-from-mirror ${shown(pull)} is not known`);
    }
    const at = place(mirror['location'], path);
    if (at === '') throw bad(path, `a mirror of ${shown(prefix)} has no location`);
    return { location: at, insecure: flag(mirror['insecure'], path, 'insecure'), pull };
  });
  return {
    prefix,
    location,
    insecure: flag(table['insecure'], path, 'insecure'),
    blocked: flag(table['blocked'], path, 'blocked'),
    mirrors,
  };
}

function place(value: unknown, path: string): string {
  if (value === undefined) return '';
  if (typeof value !== 'string' || value.includes('://')) {
    throw bad(path, `${shown(value)} is no place; write host[:port][/name], without a scheme`);
  }
  return value.replace(/\/+$/, '');
}

function parseToml(path: string, text: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw bad(path, `line ${cause.line}: ${cause.message.split('\n')[0]}`);
  }
}

function tableOf(value: unknown, path: string, key: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw bad(path, `${key} is no table`);
}

function listOf(value: unknown, path: string, key: string): unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw bad(path, `${key} must be written as [[${key}]]`);
  return value;
}

function textsOf(value: unknown, path: string, key: string): string[] {
  if (Array.isArray(value) && value.every((text) => typeof text === 'string')) return value;
  throw bad(path, `${key} is no list of texts`);
}

function flag(value: unknown, path: string, key: string): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? false;
  throw bad(path, `${key} is neither true nor false`);
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith('.conf'))
      .sort();
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function bad(path: string, why: string): RegistryError {
  return new RegistryError('refused', `${path}: ${why}`);
}
