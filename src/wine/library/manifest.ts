// What a base or a layer says about itself: base.json and layer.json, beside its files or in `.wine/` of an image.
// Written when one is made, never changed afterwards; read by ls, du, update and export.
// Version 1 of both forms.

import { MountError } from '../../stack/errors.js';

export interface BaseManifest {
  readonly version: 1;
  /** As `wine --version` says; absent where nobody knows. */
  readonly wine?: string;
  readonly arch: 'win32' | 'win64';
  /** Seconds since 1970: the time of wine.inf that it was made by, as `.update-timestamp` had it. */
  readonly infTime?: number;
  /** ISO 8601. */
  readonly made: string;
  /** `wineboot -i`, or what it was copied from. */
  readonly from: string;
  /** Whose profile is in drive_c/users. */
  readonly user?: string;
  /** SHA-256 of the files and the registry, as digest.ts makes it: hex. */
  readonly digest: string;
}

export interface LayerManifest {
  readonly version: 1;
  /** ISO 8601. */
  readonly made: string;
  /** The command that was recorded, the prefix that was committed, or the file that was imported. */
  readonly from: string;
  /** Of a recorded command, as it was given. */
  readonly command?: readonly string[];
  readonly exitCode?: number;
  /** As `wine --version` says. */
  readonly wine?: string;
  /** `NAME@N`: what it was recorded on; it may be put over others. */
  readonly base?: string;
  /** What else lay below, topmost first. */
  readonly layers?: readonly string[];
  /** A commit that has not come to its end: the layer's files are still in this prefix. */
  readonly pending?: { readonly prefix: string; readonly ino: number };
}

export const BASE_FILE = 'base.json';
export const LAYER_FILE = 'layer.json';

export const manifestText = (manifest: BaseManifest | LayerManifest): string =>
  `${JSON.stringify(manifest, undefined, 2)}\n`;

/** @param where for the message. @throws MountError of kind `layer`. */
export function parseBase(text: string, where: string): BaseManifest {
  const found = asObject(text, where);
  if (found['arch'] !== 'win32' && found['arch'] !== 'win64') {
    throw damaged(where, '"arch" is neither win32 nor win64');
  }
  requireTexts(found, ['made', 'from', 'digest'], where);
  return found as unknown as BaseManifest;
}

/** @param where for the message. @throws MountError of kind `layer`. */
export function parseLayer(text: string, where: string): LayerManifest {
  const found = asObject(text, where);
  requireTexts(found, ['made', 'from'], where);
  return found as unknown as LayerManifest;
}

function asObject(text: string, where: string): Record<string, unknown> {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw damaged(where, 'is no JSON');
  }
  if (typeof found !== 'object' || found === null) throw damaged(where, 'is no object');
  const { version } = found as { version?: unknown };
  if (version === 1) return found as Record<string, unknown>;
  throw damaged(where, `version ${JSON.stringify(version)} is not known here`);
}

function requireTexts(
  found: Record<string, unknown>,
  names: readonly string[],
  where: string,
): void {
  const odd = names.find((name) => typeof found[name] !== 'string');
  if (odd !== undefined) throw damaged(where, `"${odd}" is no text`);
}

const damaged = (where: string, what: string): MountError =>
  new MountError('layer', `${where}: ${what}: import or make it again`);
