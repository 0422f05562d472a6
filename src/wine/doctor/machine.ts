// What this machine has for Wine prefixes in layers: builds of Wine, and what of the kernel a mount needs.
// Called by `varve wine doctor`; the kernel's features are tried by stack/doctor.ts.
// Places of builds: those of Steam (Proton), Lutris, Bottles, winehq's packages.

import { mkdirSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { examine } from '../../stack/doctor.js';
import type { Feature } from '../../stack/doctor-feature.js';
import { findWine, type WineBuild } from '../prefix/build.js';
import { winePlaces } from '../prefix/places.js';

export interface WineFound {
  /** As --wine takes it; undefined: the one that is taken without --wine. */
  readonly wish: string | undefined;
  readonly name: string;
  readonly version: string;
  readonly wine: string;
}

export interface MachineReport {
  /** The library: bases, layers and prefixes by name. */
  readonly library: string;
  readonly wines: readonly WineFound[];
  /** Why there is no Wine without --wine. */
  readonly without?: string;
  readonly features: readonly Feature[];
}

/** Of what stack/doctor.ts tries, what a prefix in layers depends on. */
const FEATURES = new Set([
  'FUSE mount',
  'kernel overlayfs',
  'user namespaces',
  'fusermount3',
  'passthrough',
  'trusted.* attributes',
  'user.* attributes',
  'reflink',
]);

/** @param wish as --wine has it. */
export function machineReport(wish: string | undefined, env: NodeJS.ProcessEnv): MachineReport {
  const { root } = winePlaces(env);
  mkdirSync(root, { recursive: true });
  const { features, directories } = examine([root]);
  const here = directories[0]?.features ?? [];
  const taken = tryWine(wish, env);
  const others = buildsOf(env).map((folder) => tryWine(folder, env));
  return {
    library: root,
    wines: [taken, ...others].flatMap((one) => (typeof one === 'string' ? [] : [one])),
    ...(typeof taken === 'string' ? { without: taken } : {}),
    features: [...features, ...here].filter(({ name }) => FEATURES.has(name)),
  };
}

/** @returns why not, as text. */
function tryWine(wish: string | undefined, env: NodeJS.ProcessEnv): WineFound | string {
  try {
    const { name, version, wine }: WineBuild = findWine(wish, env);
    return { wish, name, version, wine };
  } catch (error) {
    return (error as Error).message;
  }
}

/** Folders that hold builds, each a folder. */
function buildsOf(env: NodeJS.ProcessEnv): string[] {
  const home = env['HOME'] ?? homedir();
  const data = env['XDG_DATA_HOME'] ?? join(home, '.local/share');
  const inside = (folder: string, pattern = /./): string[] =>
    namesOf(folder)
      .filter((name) => pattern.test(name))
      .map((name) => join(folder, name));
  return [
    ...inside('/opt', /^wine/),
    ...inside(join(data, 'lutris/runners/wine')),
    ...inside(join(data, 'lutris/runners/proton')),
    ...inside(join(data, 'bottles/runners')),
    ...inside(join(data, 'Steam/compatibilitytools.d')),
    ...inside(join(data, 'Steam/steamapps/common'), /^Proton/),
  ];
}

function namesOf(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
