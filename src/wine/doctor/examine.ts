// Everything that doctor knows about one prefix: its state, what leads out of it, what it stands on.
// Called by `varve wine doctor`; looks only, also while Wine runs in it.
// Each check is a file beside this one.

import { existsSync, lstatSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { show } from '../../tree/tree.js';
import { type Below, belowAt, overlaysOf, resolveBelow } from '../prefix/below.js';
import { readRecord } from '../prefix/record.js';
import { isUp } from '../prefix/standing.js';
import { baseFindings } from './base-age.js';
import { drivesOf } from './drives.js';
import type { Finding } from './finding.js';
import { ownFiles } from './isolate.js';
import { type OutwardLink, outwardLinks, withUnion } from './links.js';
import { menuFiles } from './menus.js';
import { registryLinks, stateFindings } from './state.js';

export interface PrefixReport {
  readonly folder: string;
  readonly up: boolean;
  /** Topmost first, as they were named. */
  readonly layers: readonly string[];
  readonly findings: readonly Finding[];
}

/** What a prefix stands on: by its record, or by WINEPREFIX_OVERLAYS. undefined: nobody says. @throws MountError. */
export async function belowOf(
  folder: string,
  env: NodeJS.ProcessEnv,
): Promise<Below[] | undefined> {
  const record = readRecord(folder);
  if (record !== undefined) return resolveBelow(record, env);
  const overlays = env['WINEPREFIX_OVERLAYS'] ?? '';
  if (overlays === '') return undefined;
  return Promise.all(overlaysOf(overlays).map((path) => belowAt(path, path)));
}

/** @param folder of a prefix. */
export async function examinePrefix(folder: string, env: NodeJS.ProcessEnv): Promise<PrefixReport> {
  const up = isUp(folder);
  const known = await knownBelow(folder, env);
  const below = known instanceof MountError ? [] : (known ?? []);
  const layered = below.length > 0 || existsSync(join(folder, '.varve'));
  const state = stateFindings(folder, { layered, up, euid: process.geteuid?.() ?? 0 });
  return {
    folder,
    up,
    layers: below.map(({ label }) => label),
    findings: [
      ...(known instanceof MountError ? [missing(known)] : []),
      ...state,
      ...below.flatMap(({ driveC, isImage }) =>
        isImage ? [] : registryLinks(dirname(driveC), false),
      ),
      ...(await linkFindings(folder, below, state)),
      ...driveFindings(folder),
      ...menuFindings(folder, env),
      ...baseFindings(folder, env),
    ],
  };
}

/** @throws MountError of kind `absent` for what is no prefix. */
export function requirePrefix(folder: string): void {
  const isThere = ['drive_c', '.varve', 'system.reg'].some(
    (name) => lstatSync(join(folder, name), { throwIfNoEntry: false }) !== undefined,
  );
  if (isThere) return;
  throw new MountError('absent', `${folder}: no prefix of Wine: \`varve wine ls\` lists those`);
}

async function knownBelow(
  folder: string,
  env: NodeJS.ProcessEnv,
): Promise<Below[] | undefined | MountError> {
  try {
    return await belowOf(folder, env);
  } catch (error) {
    if (error instanceof MountError) return error;
    throw error;
  }
}

function missing({ message }: MountError): Finding {
  return {
    name: 'layer-missing',
    verdict: 'fault',
    what: message,
    paths: [],
    remedy: 'bring it back, or take it out of the prefix by `varve wine layer take`',
    fixable: false,
  };
}

async function linkFindings(
  folder: string,
  below: readonly Below[],
  state: readonly Finding[],
): Promise<Finding[]> {
  // With files in both places nobody knows which count.
  if (state.some(({ name }) => name === 'two-uppers')) return [];
  const own = ownFiles(folder);
  const layers = [...(existsSync(own) ? [own] : []), ...below.map(({ driveC }) => driveC)];
  if (layers.length === 0) return [];
  const links = await withUnion(layers, (union) => outwardLinks(union, folder));
  return [
    ...grouped(
      links.filter(({ profile }) => profile),
      folder,
      'profile-link',
      'folders of the profile are folders of the home: programs read and write there',
      'each becomes a folder of the prefix; what is in the home stays there',
      true,
    ),
    ...grouped(
      links.filter(({ profile }) => !profile),
      folder,
      'outward-link',
      'a link leads out of the prefix',
      'put a copy in its place if the prefix is to be on its own, or leave it',
      false,
    ),
  ];
}

/** One finding for all links to the same place. */
function grouped(
  links: readonly OutwardLink[],
  folder: string,
  name: string,
  what: string,
  remedy: string,
  fixable: boolean,
): Finding[] {
  const targets = [...new Set(links.map(({ target }) => target))];
  return targets.map((target) => ({
    name,
    verdict: 'leak',
    what: `${what} (${show(target)})`,
    paths: links
      .filter((link) => link.target === target)
      .map(({ path }) => join(folder, 'drive_c', Buffer.from(path, 'latin1').toString())),
    remedy,
    fixable,
  }));
}

function driveFindings(folder: string): Finding[] {
  return drivesOf(folder)
    .filter(({ outside }) => outside)
    .map(({ name, target }) => ({
      name: 'drive',
      verdict: 'leak',
      what: `drive ${name} shows ${target}: programs read and write there`,
      paths: [join(folder, 'dosdevices', name)],
      remedy: 'it goes with --fix --no-z; then programs start by their Windows path only',
      fixable: false,
    }));
}

function menuFindings(folder: string, env: NodeJS.ProcessEnv): Finding[] {
  const files = menuFiles([...new Set([folder, realpathSync(folder)])], env);
  if (files.length === 0) return [];
  return [
    {
      name: 'menu-entry',
      verdict: 'leak',
      what: 'installers have put entries into the menu of your desktop',
      paths: files,
      remedy: 'they move to menu-entries/ of the prefix, and Wine makes no more of them',
      fixable: true,
    },
  ];
}
