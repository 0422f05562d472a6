// Menu entries, file types and icons that winemenubuilder has put into somebody's home for one prefix; and moving them out of there.
// Read by examine.ts; isolate.ts moves them. An entry belongs to the prefix that its command names, a file to the entries that use it.
// Follows: programs/winemenubuilder of Wine; Desktop Menu Specification 1.1, Icon Theme Specification 0.13.

import {
  copyFileSync,
  type Dirent,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';

/** Where the folder of a desktop's files is that concern this user. */
interface Folders {
  readonly home: string;
  readonly data: string;
  readonly config: string;
}

function foldersOf(env: NodeJS.ProcessEnv): Folders {
  const home = env['HOME'] ?? homedir();
  const xdg = (name: string, otherwise: string): string => {
    const given = env[name];
    return given?.startsWith('/') ? given : join(home, otherwise);
  };
  return {
    home,
    data: xdg('XDG_DATA_HOME', '.local/share'),
    config: xdg('XDG_CONFIG_HOME', '.config'),
  };
}

interface Entry {
  readonly path: string;
  /** As menus name it: its path below applications/, with dashes. */
  readonly id: string;
  readonly icon: string | undefined;
  readonly ours: boolean;
}

/** Every file of the desktop that is there for this prefix alone. @param names all that the prefix is called: absolute paths. */
export function menuFiles(names: readonly string[], env: NodeJS.ProcessEnv): string[] {
  const { home, data, config } = foldersOf(env);
  const applications = join(data, 'applications');
  const places = [applications, join(home, 'Desktop')];
  const entries = places.flatMap((place) =>
    filesBelow(place, '.desktop').map((path) => readEntry(path, place, names)),
  );
  const ours = entries.filter((entry) => entry.ours);
  if (ours.length === 0) return [];
  const menus = filesBelow(join(config, 'menus/applications-merged'), '.menu').map((path) => {
    const text = textOf(path);
    return { path, text, ours: ours.some(({ id }) => text.includes(`<Filename>${id}<`)) };
  });
  const left = menus.filter((menu) => !menu.ours);
  const directories = filesBelow(join(data, 'desktop-directories'), '.directory').filter((path) => {
    const word = `<Directory>${basename(path)}<`;
    const named = menus.some((menu) => menu.ours && menu.text.includes(word));
    return named && !left.some((menu) => menu.text.includes(word));
  });
  const kept = new Set(entries.flatMap((entry) => (entry.ours ? [] : (entry.icon ?? []))));
  const icons = new Set(ours.flatMap(({ icon }) => icon ?? []).filter((icon) => !kept.has(icon)));
  const types = new Set(ours.map(({ id }) => `x-${id.replace(/\.desktop$/, '.xml')}`));
  return [
    ...ours.map(({ path }) => path),
    ...menus.flatMap((menu) => (menu.ours ? [menu.path] : [])),
    ...directories,
    ...filesBelow(join(data, 'mime/packages'), '.xml').filter((path) => types.has(basename(path))),
    ...filesBelow(join(data, 'icons'), '.png').filter((path) => icons.has(basename(path, '.png'))),
  ].sort();
}

function readEntry(path: string, place: string, names: readonly string[]): Entry {
  const text = textOf(path);
  return {
    path,
    id: relative(place, path).replaceAll('/', '-'),
    icon: /^Icon=(.+)$/m.exec(text)?.[1],
    ours: names.some((name) => text.includes(`WINEPREFIX="${name}"`)),
  };
}

/** Moves files out of the home into `into`, each at its path below the home. @returns where they are now. */
export function moveAway(files: readonly string[], into: string, env: NodeJS.ProcessEnv): string[] {
  const { home } = foldersOf(env);
  return files.map((file) => {
    const path = relative(home, file);
    const to = join(into, path.startsWith('..') ? file.slice(1) : path);
    mkdirSync(dirname(to), { recursive: true });
    try {
      renameSync(file, to);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
      copyFileSync(file, to);
      unlinkSync(file);
    }
    return to;
  });
}

/** Regular files with this ending, however deep. Links are not followed. */
function filesBelow(folder: string, ending: string): string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path, ending);
    return entry.isFile() && entry.name.endsWith(ending) ? [path] : [];
  });
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
