// What Wine and its programs write into the registry by merely running: data of a session, of the machine, or a cache.
// Asked when a layer is made and when changes are shown, so that what an installer did can be seen.
// The table is docs/wine-registry.md, "Noise"; every row says why, and deleting is noise nowhere above a row.

import type { KeyDelta, RegistryDelta } from './delta.js';
import { fold, HIVES, type HiveName } from './hive.js';

interface Rule {
  readonly hives: readonly HiveName[];
  /** Of folded paths: the key and all below it. */
  readonly path: RegExp;
  /** Folded name of the only value that is noise; absent: the whole key is. */
  readonly value?: string;
  readonly why: string;
}

const MACHINE: readonly HiveName[] = ['system'];
const USERS: readonly HiveName[] = ['user', 'userdef'];

/** Buses whose devices Wine finds by itself; a driver that an installer brings stands under ROOT. */
const BUS = '(?:bth[a-z]*|display|hid|mmdevapi|pci|scsi|storage|usb[a-z]*|wine[a-z]*)';

/** @param path with `*` for one part of a path, `BUS` for a bus, `CCS` for the control set in use */
function rule(hives: readonly HiveName[], path: string, why: string, value?: string): Rule {
  const parts = fold(path).split('\\').map(partPattern);
  return { hives, path: new RegExp(`^${parts.join('\\\\')}(?:\\\\|$)`), why, value };
}

function partPattern(part: string): string {
  if (part === '*') return '[^\\\\]+';
  if (part === 'bus') return BUS;
  if (part === '##?#bus#*') return `##\\?#${BUS}#[^\\\\]+`;
  if (part === 'ccs') return '(?:currentcontrolset|controlset001)';
  return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

const EXPLORER = 'Software\\Microsoft\\Windows\\CurrentVersion\\Explorer';
const NT = 'Software\\Microsoft\\Windows NT\\CurrentVersion';
const DISPLAY = 'System\\CCS\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}';
const MONITOR = 'System\\CCS\\Control\\Class\\{4d36e96e-e325-11ce-bfc1-08002be10318}';

const HARDWARE = 'a device of this machine, found again in each session';
const ZONE = 'the time zone of this machine';
const FONTS = 'a cache of the fonts of this machine';
const RECENT = 'what was opened last';
const WINDOWS = 'where a window was, and how a folder is shown';
const MENUS = 'what Wine has written into the menus of this machine';
const PRINTERS = 'the printers of this machine';

const RULES: readonly Rule[] = [
  rule(MACHINE, 'Hardware', HARDWARE),
  rule(MACHINE, 'System\\CCS\\Enum\\BUS', HARDWARE),
  rule(MACHINE, 'System\\CCS\\Enum\\ROOT\\WINE', HARDWARE),
  rule(MACHINE, 'System\\CCS\\Control\\DeviceClasses\\*\\##?#BUS#*', HARDWARE),
  rule(MACHINE, 'System\\CCS\\Control\\Video', HARDWARE),
  rule(MACHINE, `${DISPLAY}\\*`, HARDWARE),
  rule(MACHINE, DISPLAY, HARDWARE, 'class'),
  rule(MACHINE, DISPLAY, HARDWARE, ''),
  rule(MACHINE, `${MONITOR}\\*`, HARDWARE),
  rule(MACHINE, MONITOR, HARDWARE, 'class'),
  rule(MACHINE, MONITOR, HARDWARE, ''),
  rule(MACHINE, `${NT}\\NetworkCards`, HARDWARE),
  rule(MACHINE, 'System\\CCS\\Control\\GraphicsDrivers', HARDWARE),
  rule(MACHINE, 'System\\CCS\\Hardware Profiles\\Current\\System', HARDWARE),
  rule(MACHINE, 'Software\\Microsoft\\Windows Media Foundation\\Platform\\EffectDevices', HARDWARE),
  rule(USERS, 'Software\\Wine\\Drivers\\*\\devices', HARDWARE),
  rule(MACHINE, 'System\\CCS\\Control\\TimeZoneInformation', ZONE),
  rule(MACHINE, `${NT}\\Time Zones`, 'a table of all time zones, which Wine writes again'),
  // Replacements, which winetricks sets, stand below.
  rule(USERS, 'Software\\Wine\\Fonts\\Cache', FONTS),
  rule(USERS, 'Software\\Wine\\Fonts\\External Fonts', FONTS),
  rule(USERS, 'Software\\Wine\\Fonts', FONTS, 'codepages'),
  rule(MACHINE, 'Software\\Wine\\Fonts', FONTS),
  rule(USERS, 'Software\\Wine\\Temporary System Parameters', 'settings of one session'),
  rule(USERS, 'Volatile Environment', 'settings of one session'),
  rule(USERS, `${EXPLORER}\\SessionInfo`, 'settings of one session'),
  rule(USERS, 'Software\\Classes\\Local Settings\\MuiCache', 'a cache of names of programs'),
  rule(USERS, 'Software\\Classes\\Local Settings\\Software\\Microsoft\\Windows\\Shell', WINDOWS),
  rule(USERS, 'Software\\Microsoft\\Windows\\ShellNoRoam', WINDOWS),
  rule(USERS, 'Software\\Microsoft\\Windows\\Shell\\Bags', WINDOWS),
  rule(USERS, 'Software\\Microsoft\\Windows\\Shell\\BagMRU', WINDOWS),
  rule(USERS, `${EXPLORER}\\StreamMRU`, WINDOWS),
  rule(USERS, `${EXPLORER}\\Streams`, WINDOWS),
  rule(USERS, `${EXPLORER}\\MenuOrder`, WINDOWS),
  rule(USERS, `${EXPLORER}\\MountPoints2`, WINDOWS),
  rule(USERS, `${EXPLORER}\\ComDlg32`, RECENT),
  rule(USERS, `${EXPLORER}\\RecentDocs`, RECENT),
  rule(USERS, `${EXPLORER}\\RunMRU`, RECENT),
  rule(USERS, `${EXPLORER}\\TypedPaths`, RECENT),
  rule(USERS, `${EXPLORER}\\UserAssist`, RECENT),
  rule(USERS, `${EXPLORER}\\FileExts\\*\\OpenWithList`, RECENT),
  rule(USERS, 'Software\\Microsoft\\Internet Explorer\\TypedURLs', RECENT),
  rule(USERS, 'Software\\Microsoft\\DirectInput\\MostRecentApplication', RECENT),
  rule(USERS, 'Software\\Wine\\Regedit', 'where regedit was last', 'lastkey'),
  rule(USERS, 'Software\\Microsoft\\Windows\\CurrentVersion\\Applets\\Regedit', RECENT, 'lastkey'),
  rule(
    USERS,
    'Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\5.0\\Cache',
    'a cache of pages',
  ),
  rule(USERS, 'Software\\Wine\\MenuFiles', MENUS),
  rule(USERS, 'Software\\Wine\\FileOpenAssociations', MENUS),
  rule(USERS, `${NT}\\Devices`, PRINTERS),
  rule(USERS, `${NT}\\PrinterPorts`, PRINTERS),
  rule(USERS, `${NT}\\Windows`, PRINTERS, 'device'),
  rule(MACHINE, 'System\\CCS\\Control\\Print\\Printers', PRINTERS),
  rule(MACHINE, `${NT}\\Print\\Printers`, PRINTERS),
  rule(MACHINE, `${NT}\\Perflib`, 'counters of performance, kept for one session'),
  rule(MACHINE, `${NT}\\Prefetcher`, 'what was started last'),
  rule(MACHINE, 'Software\\Microsoft\\Cryptography\\RNG', 'the seed of random numbers', 'seed'),
  rule(
    MACHINE,
    'Software\\Microsoft\\Windows\\CurrentVersion\\Installer\\InProgress',
    'an installation under way',
  ),
];

/**
 * Why a key or a value is noise; undefined where it is none.
 * @param valueName absent: the key itself
 */
export function isNoise(
  hive: HiveName,
  path: string,
  valueName: string | undefined,
): string | undefined {
  const folded = fold(path);
  const value = valueName === undefined ? undefined : fold(valueName);
  return RULES.find(
    (rule) =>
      rule.hives.includes(hive) &&
      rule.path.test(folded) &&
      (rule.value === undefined || (rule.value === value && isWhole(rule, folded))),
  )?.why;
}

/** A rule for one value is for its key, not for those below. */
const isWhole = (rule: Rule, folded: string) => rule.path.exec(folded)![0] === folded;

export interface Noise {
  readonly hive: HiveName;
  readonly path: string;
  /** Name; absent for what happens to a key as a whole. */
  readonly value?: string;
  readonly why: string;
}

/** How many keys there is noise in. */
export const noisyKeys = (noise: readonly Noise[]): number =>
  new Set(noise.map(({ hive, path }) => `${hive} ${fold(path)}`)).size;

/** The delta without its noise, and what that was. */
export function withoutNoise(delta: RegistryDelta): { delta: RegistryDelta; noise: Noise[] } {
  const noise: Noise[] = [];
  const quiet = { system: new Map(), user: new Map(), userdef: new Map() };
  for (const hive of HIVES) {
    for (const [folded, entry] of delta[hive]) {
      const kept = quietEntry(hive, entry, noise);
      if (kept !== undefined) quiet[hive].set(folded, kept);
    }
  }
  return { delta: quiet, noise };
}

function quietEntry(hive: HiveName, entry: KeyDelta, noise: Noise[]): KeyDelta | undefined {
  const { path } = entry;
  const why = isNoise(hive, path, undefined);
  if (why !== undefined) {
    const names = [...[...entry.set.values()].map(({ name }) => name), ...entry.removed.values()];
    if (names.length === 0) noise.push({ hive, path, why });
    for (const value of names) noise.push({ hive, path, value, why });
    return undefined;
  }
  const isKept = (value: string) => {
    const why = isNoise(hive, path, value);
    if (why !== undefined) noise.push({ hive, path, value, why });
    return why === undefined;
  };
  const set = new Map([...entry.set].filter(([, { name }]) => isKept(name)));
  const removed = new Map([...entry.removed].filter(([, name]) => isKept(name)));
  if (set.size === entry.set.size && removed.size === entry.removed.size) return entry;
  const isIdle = set.size === 0 && removed.size === 0 && entry.options === undefined;
  return isIdle && !entry.present && !entry.deleted ? undefined : { ...entry, set, removed };
}
