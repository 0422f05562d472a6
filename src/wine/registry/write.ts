// A registry file as bytes, and an empty one.
// The last step of every merge; what has come unchanged from a file keeps its very text.
// Follows: server/registry.c of Wine (save_all_subkeys, save_subkeys, dump_path, dump_value).

import { escapeText } from './escape.js';
import type { Hive, HiveName, RegistryKey, RegistryValue } from './hive.js';
import { sourceOf, textOf } from './parse.js';

/** The file. A hive as it was read gives the bytes that it was read from. */
export function writeHive(hive: Hive): Buffer {
  const source = sourceOf(hive);
  if (source !== undefined) return Buffer.from(source, 'latin1');
  const parts = [hive.header.join('\n'), '\n'];
  for (const key of hive.keys.values()) parts.push('\n', textOf(key) ?? keyText(key), '\n');
  return Buffer.from(parts.join(''), 'latin1');
}

/** `[Software\\Wine] 1676758571` */
export const keyLine = (path: string, stamp: string): string =>
  `[${escapeText(path, '[]')}]${stamp}`;

/** `"name"=`, or `@=` for the default value. */
export const valueHead = (name: string): string =>
  name === '' ? '@=' : `"${escapeText(name, '"')}"=`;

export const valueText = (value: RegistryValue): string => valueHead(value.name) + value.data;

function keyText(key: RegistryKey): string {
  const lines = [keyLine(key.path, key.stamp), ...key.options];
  for (const value of key.values.values()) lines.push(valueText(value));
  return lines.join('\n');
}

const ROOTS: Record<HiveName, string> = {
  system: 'REGISTRY\\\\Machine',
  user: 'REGISTRY\\\\User\\\\S-1-5-21-0-0-0-1000',
  userdef: 'REGISTRY\\\\User\\\\.Default',
};

/** A hive without keys. */
export function emptyHive(name: HiveName, arch: 'win32' | 'win64'): Hive {
  const header = [
    'WINE REGISTRY Version 2',
    `;; All keys relative to ${ROOTS[name]}`,
    '',
    `#arch=${arch}`,
  ];
  return { header, keys: new Map() };
}
