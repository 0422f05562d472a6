// Mends what doctor has found in one prefix, as far as that loses nothing.
// Called by `varve wine doctor --fix`; the prefix must be down, and is kept from starting meanwhile.
// Each step leaves a prefix that works; a killed run has done less, and the next does the rest.

import { existsSync, readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { NO_UPDATE, TIMESTAMP } from '../prefix/materialise.js';
import { pathsOf } from '../prefix/places.js';
import { holdPrefix } from '../prefix/standing.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { dropBuiltins } from './builtins.js';
import { belowOf, examinePrefix } from './examine.js';
import type { Finding } from './finding.js';
import { isolate } from './isolate.js';

export interface FixOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Takes away drives that show files of the host, too. */
  readonly drives: boolean;
}

/** @returns what was done, a line each. @throws MountError: `busy` while the prefix is in use. */
export async function fixPrefix(folder: string, options: FixOptions): Promise<string[]> {
  const isLayered = existsSync(pathsOf(folder).state);
  const before = isLayered ? (await examinePrefix(folder, options.env)).findings : [];
  // Taking the lock mends what a session has left.
  const lock = isLayered ? await holdPrefix(folder, 'mend it') : undefined;
  try {
    const { findings } = await examinePrefix(folder, options.env);
    const left = new Set(findings.map(({ name }) => name));
    const mended = before.filter(({ name }) => !left.has(name));
    const done = mended.flatMap(({ paths }) => paths.map((path) => `${path}: put in order`));
    for (const finding of findings) done.push(...(await mendOne(folder, finding, options)));
    done.push(...(await isolated(folder, findings, options)));
    return done;
  } finally {
    lock?.release();
  }
}

async function mendOne(
  folder: string,
  { name, paths }: Finding,
  { env }: FixOptions,
): Promise<string[]> {
  switch (name) {
    case 'registry-link':
      for (const path of paths) writeFileWhole(path, readFileSync(path));
      return paths.map((path) => `${path}: is a file of its own now`);
    case 'registry-temporary':
      for (const path of paths) unlinkSync(path);
      return paths.map((path) => `${path}: removed`);
    case 'update-timestamp':
      writeFileWhole(join(folder, TIMESTAMP), NO_UPDATE);
      return [`${join(folder, TIMESTAMP)}: says disable now`];
    case 'builtins':
      return dropBuiltins(folder, (await belowOf(folder, env)) ?? []);
    default:
      return [];
  }
}

/** Everything about leaks is one piece of work. */
async function isolated(
  folder: string,
  findings: readonly Finding[],
  { env, drives }: FixOptions,
): Promise<string[]> {
  const leaks = new Set(findings.map(({ name }) => name));
  const wanted =
    leaks.has('profile-link') || leaks.has('menu-entry') || (drives && leaks.has('drive'));
  if (!wanted) return [];
  const below = (await belowOf(folder, env)) ?? [];
  const { links, drives: gone, menus } = await isolate(folder, below, { env, drives });
  return [
    ...links.map(
      ({ path }) =>
        `${join(folder, 'drive_c', Buffer.from(path, 'latin1').toString())}: is a folder of the prefix now`,
    ),
    ...menus.map((path) => `${path}: was in the home`),
    ...gone.map((name) => `drive ${name}: is gone`),
  ];
}
