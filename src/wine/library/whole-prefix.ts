// All that a prefix shows as one tree: its own files over its layers and its base, and its registry as it stands.
// Used to make a base of a prefix, and to export one; a plain prefix of Wine is read as it is.
// The prefix is down: its own files are in drive_c, its .reg files are complete.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { flatten } from '../../ops/layers/flatten.js';
import { findStack, openLayers } from '../../ops/open-stack.js';
import { MountError } from '../../stack/errors.js';
import { joinLayers } from '../../stack/option-text.js';
import { scan } from '../../tree/scan.js';
import { type Below, resolveBelow } from '../prefix/below.js';
import { TIMESTAMP } from '../prefix/materialise.js';
import { readRecord } from '../prefix/record.js';
import { readIfThere } from '../prefix/registry-source.js';
import { fileOf, HIVES } from '../registry/hive.js';
import { type OpenForm, putBeside } from './form.js';

/** @throws MountError, TreeError, SysError, ErofsError. */
export async function openWholePrefix(folder: string, env: NodeJS.ProcessEnv): Promise<OpenForm> {
  const beside = new Map<string, Uint8Array>();
  for (const name of [...HIVES.map(fileOf), TIMESTAMP]) {
    const bytes = readIfThere(join(folder, name));
    if (bytes !== undefined) beside.set(name, bytes);
  }
  const driveC = join(folder, 'drive_c');
  const isPrefix = statSync(driveC, { throwIfNoEntry: false })?.isDirectory() === true;
  if (!isPrefix || !beside.has(fileOf('system'))) {
    throw new MountError(
      'layer',
      `${folder}: is no Wine prefix: it has no drive_c or no system.reg`,
    );
  }
  const record = readRecord(folder);
  const form =
    record === undefined ? scan(driveC) : await openUnion(driveC, await resolveBelow(record, env));
  putBeside(form.root, beside);
  return form;
}

async function openUnion(driveC: string, below: readonly Below[]): Promise<OpenForm> {
  const opened = openLayers(await findStack({ options: [lowersOf(driveC, below)], reads: true }));
  try {
    return { root: flatten(opened), close: opened.close };
  } catch (error) {
    opened.close();
    throw error;
  }
}

/** The option that names a prefix's own files and everything below them, all as lowers. */
export function lowersOf(driveC: string, below: readonly Below[]): string {
  const lowers = [driveC, ...below.map((one) => one.driveC)];
  const data = below.flatMap((one) => one.data);
  return `lowerdir=${joinLayers(lowers, data)}`;
}
