// What a prefix stands on, as its file says: P/.varve/prefix.json.
// Written by create, layer put and take, commit, update; read whenever a prefix starts.
// Version 1 of its form; the drop-in's prefixes have none.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { pathsOf } from './places.js';
import { validPlace } from './publishing.js';
import { writeFileWhole } from './write-file.js';

export interface PrefixRecord {
  readonly version: 1;
  /** `NAME@N`: the version on which the prefix's own changes stand. */
  readonly base?: string;
  /** Whether it moves on when the base has a newer version. */
  readonly follows: boolean;
  /** Topmost first: names, or absolute paths of drive_c folders or images. */
  readonly layers: readonly string[];
  /** The Wine build it runs with, as --wine names one; absent: the one of the caller. */
  readonly wine?: string;
  /** Kept apart from the home folder of its user. */
  readonly isolate?: boolean;
}

/** @returns undefined where there is none. @throws MountError of kind `layer` for one that cannot be understood. */
export function readRecord(folder: string): PrefixRecord | undefined {
  const { record } = pathsOf(folder);
  // One that a killed process has made valid, and not yet put into its place.
  const text = textAt(validPlace(folder, basename(record))) ?? textAt(record);
  if (text === undefined) return undefined;
  const found = asRecord(text);
  if (typeof found === 'string') {
    throw new MountError('layer', `${record}: ${found}: correct it, or take it from a backup`);
  }
  return found;
}

function textAt(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new MountError('layer', `${path}: cannot be read: ${reasonOf(error)}`);
  }
}

/** @throws the error of node:fs. */
export function writeRecord(folder: string, record: PrefixRecord): void {
  writeFileWhole(pathsOf(folder).record, recordText(record));
}

export const recordText = (record: PrefixRecord): string =>
  `${JSON.stringify(record, undefined, 2)}\n`;

/** The record, or what is wrong with the text. */
function asRecord(text: string): PrefixRecord | string {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return 'is no JSON';
  }
  if (typeof found !== 'object' || found === null) return 'is no object';
  const { version, base, follows, layers, wine, isolate } = found as Record<string, unknown>;
  if (version !== 1) return `version ${JSON.stringify(version)} is not known here`;
  if (!isStrings(layers)) return '"layers" is no list of names';
  if (typeof follows !== 'boolean') return '"follows" is neither true nor false';
  if (!isOptional(base, 'string')) return '"base" is no text';
  if (!isOptional(wine, 'string')) return '"wine" is no text';
  if (!isOptional(isolate, 'boolean')) return '"isolate" is neither true nor false';
  return found as PrefixRecord;
}

const isStrings = (value: unknown): boolean =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

const isOptional = (value: unknown, type: 'string' | 'boolean'): boolean =>
  value === undefined || typeof value === type;
