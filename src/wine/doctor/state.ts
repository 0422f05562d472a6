// What is wrong with the files of one prefix: owner, .reg files that are links, what a crash has left, Wine without its layers.
// Called by examine.ts; looks only, follows no link of the prefix, and asks nothing of a mount whose server is gone.
// Follows: the layout in docs/wine-running.md; server/registry.c of Wine (save_branch) for how .reg files are written.

import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileOf, HIVES } from '../registry/hive.js';
import type { Finding } from './finding.js';

/** What of the checks depends on how the prefix is used. */
export interface Use {
  /** It has layers below its own files. */
  readonly layered: boolean;
  /** drive_c is a mount now. */
  readonly up: boolean;
  readonly euid: number;
}

/** In the order in which one would mend them. */
export function stateFindings(folder: string, use: Use): Finding[] {
  return [
    ...owner(folder, use),
    ...registryLinks(folder, true),
    ...leftovers(folder, use),
    ...(use.layered ? [...withoutLayers(folder, use), ...timestamp(folder)] : []),
    ...driveC(folder),
  ];
}

function owner(folder: string, { euid }: Use): Finding[] {
  const { uid } = lstatSync(folder);
  if (uid === euid) return [];
  return [
    fault(
      'owner',
      `belongs to user ${uid}: Wine refuses a prefix that is not its user's own`,
      [folder],
      `use it as that user, or chown -R it`,
    ),
  ];
}

/**
 * .reg files with another name somewhere: wineserver writes such in place, and with them whoever else has the name.
 * @param own of the prefix itself: `--fix` gives it copies of its own. Of a layer: it must not be used by Wine.
 */
export function registryLinks(folder: string, own: boolean): Finding[] {
  const linked = HIVES.map((hive) => join(folder, fileOf(hive))).filter((path) => {
    const stat = statOf(path);
    return stat !== undefined && (stat.isSymbolicLink() || (stat.isFile() && stat.nlink > 1));
  });
  if (linked.length === 0) return [];
  return [
    fault(
      own ? 'registry-link' : 'layer-registry-link',
      'wineserver writes a .reg file that is a link in place, and so into what it is linked to',
      linked,
      'each becomes a file of its own, with the same content',
      own,
    ),
  ];
}

function leftovers(folder: string, { up, layered }: Use): Finding[] {
  if (up) return [];
  const found: Finding[] = [];
  const upper = join(folder, '.varve/upper');
  const session = join(folder, '.varve/session.json');
  if (statOf(upper)?.isDirectory()) {
    const both = namesOf(join(folder, 'drive_c')).length > 0 && namesOf(upper).length > 0;
    found.push(
      both
        ? fault(
            'two-uppers',
            'files were written where drive_c is mounted, while it was not; the own files are in .varve/upper',
            [join(folder, 'drive_c'), upper],
            'the next start puts what is in drive_c aside, and says where',
            true,
          )
        : fault(
            'upper-left',
            'the last session ended in the middle: the own files are in .varve/upper still',
            [upper],
            'the next start mends it',
            true,
          ),
    );
  } else if (existsSync(session)) {
    found.push(
      fault(
        'session-left',
        'the last session ended in the middle',
        [session],
        'the next start mends it',
        true,
      ),
    );
  }
  const temporary = namesOf(folder)
    .filter((name) => /^reg[0-9a-f]+\.tmp$/.test(name))
    .map((name) => join(folder, name));
  if (temporary.length > 0 && layered) {
    found.push({
      name: 'registry-temporary',
      verdict: 'note',
      what: 'wineserver was killed while it saved: the .reg files beside these are whole',
      paths: temporary,
      remedy: 'they are removed',
      fixable: true,
    });
  }
  return found;
}

/** Files that only Wine's own set-up makes. */
const BUILTINS = ['ntdll.dll', 'kernel32.dll', 'user32.dll', 'explorer.exe', 'services.exe'];

function withoutLayers(folder: string, { up }: Use): Finding[] {
  if (up) return [];
  const system = join(folder, 'drive_c/windows/system32');
  const builtins = BUILTINS.map((name) => join(system, name)).filter((path) =>
    statOf(path)?.isFile(),
  );
  if (builtins.length < BUILTINS.length) return [];
  return [
    fault(
      'builtins',
      'the own files hold all of Wine: it ran here without the layers, or updated this prefix by itself',
      [system],
      'start it by `varve wine`, or by the shims of `varve setup --wine`; what equals the layers is dropped',
      true,
    ),
  ];
}

function timestamp(folder: string): Finding[] {
  const path = join(folder, '.update-timestamp');
  const text = statOf(path)?.isFile() ? readFileSync(path, 'latin1').trim() : undefined;
  if (text === 'disable' || text === undefined) return [];
  return [
    fault(
      'update-timestamp',
      'another Wine would update this prefix by itself, and write all of its files into it',
      [path],
      'it becomes `disable`; `varve wine update` updates the base instead',
      true,
    ),
  ];
}

function driveC(folder: string): Finding[] {
  const link = join(folder, 'dosdevices/c:');
  const stat = statOf(link);
  if (stat === undefined && !existsSync(join(folder, 'dosdevices'))) return [];
  if (stat?.isSymbolicLink() && basename(readlinkSync(link)) === 'drive_c') return [];
  return [
    fault('drive-c', 'drive c: is not the drive_c of this prefix', [link], 'ln -sfn ../drive_c it'),
  ];
}

function fault(
  name: string,
  what: string,
  paths: readonly string[],
  remedy: string,
  fixable = false,
): Finding {
  return { name, verdict: 'fault', what, paths, remedy, fixable };
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch {
    return undefined;
  }
}

function namesOf(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
