// A start that is ready made: what the next session of a prefix would decide, and by what it is known that it still would.
// Written when a session of the kernel's has ended in good order. bin/wine-shim starts by it without Node, and leaves everything
// that is not exactly as recorded to session.ts. Lines of data, never run; stamps are stat(1)'s, which the shell asks again.

import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileOf, HIVES } from '../registry/hive.js';
import { type Below, layerPlace, overlaysOf, resolveBelow } from './below.js';
import { emptyWork } from './drive.js';
import { keeperScript } from './keeper.js';
import type { SessionMark, SessionPaths, SessionRecord } from './layout.js';
import { isInOrder } from './materialise.js';
import { winePlaces } from './places.js';
import { type PrefixRecord, readRecord } from './record.js';
import { DELTA_FILE, INNER } from './registry-source.js';
import { serverName } from './waiting.js';
import { writeFileWhole } from './write-file.js';

/** First line; another form of the file has another number. */
const VERSION = 'varve start 1';

/** Differs when the file is another one, or was written, or when a name in the directory came or went. The shim asks the same. */
const STAMP = '%d:%i:%f:%h:%s:%u:%.9Y:%.9Z';

/** One line, and what neither mount(8) nor the kernel takes for a sign of its own. */
const ORDINARY = /^[^\p{Cc},:"'\\]+$/u;

/** A session that has ended. */
export interface Ended {
  readonly session: SessionRecord;
  /** As it was while the session was up. */
  readonly mark: SessionMark | undefined;
  /** The command line up to its first word, which takes the next session down. */
  readonly varve: readonly string[];
}

/**
 * Where no start can be made ready there is none: no failure, the next session looks at everything.
 * The caller has the prefix's lock, and everything is back in its place.
 */
export async function makeReadyStart(
  paths: SessionPaths,
  ended: Ended,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  try {
    rmSync(paths.ready, { force: true });
    const text = await readyText(paths, ended, env);
    if (text !== undefined) writeFileWhole(paths.ready, text);
  } catch {
    // The next session says what is wrong.
  }
}

async function readyText(
  paths: SessionPaths,
  { session, mark, varve }: Ended,
  env: NodeJS.ProcessEnv,
): Promise<string | undefined> {
  const { folder } = paths;
  const record = readRecord(folder);
  const [node = '', main = '', ...more] = varve;
  const isUsual = session.backend === 'kernel' && session.mountOptions !== undefined;
  // One that was started with a Wine of its own has no mark.
  if (!isUsual || record === undefined || mark === undefined || more.length > 0) return undefined;
  const { WINESERVER = '', WINELOADER = '', ...further } = session.env;
  if (Object.keys(further).length > 0 || !asksFor(record, mark)) return undefined;
  emptyWork(paths.work);
  const below = await resolveBelow(record, env);
  const inputs = [...ownInputs(paths), node, main, keeperScript(main), ...layerInputs(record, env)];
  inputs.push(...below.flatMap(registryInputs));
  if (![folder, ...inputs].every((path) => ORDINARY.test(path))) return undefined;
  // First what things look like, then whether nothing is to be done: what changes between the two is noticed later.
  const stat = spawnSync('stat', ['-L', '-c', STAMP, '--', ...inputs], { encoding: 'utf8' });
  if (stat.status !== 0) return undefined;
  const now = await resolveBelow(record, env);
  const layers = now.map(({ driveC }) => driveC);
  if (now.some(({ isImage }) => isImage)) return undefined;
  if (JSON.stringify(layers) !== JSON.stringify(session.layers)) return undefined;
  if (!isInOrder(folder, now) || !standsOnCurrent(record, env)) return undefined;
  const lines = [
    VERSION,
    ...[mark.overlays, mark.cwd],
    ['VARVE_WINE_DIR', 'XDG_DATA_HOME', 'HOME'].map((name) => env[name] ?? '').join(':'),
    ...[session.wineserver, serverName(folder), String(process.geteuid?.() ?? 0)],
    ...[folder, session.mountOptions, JSON.stringify(session)],
    ...[node, main, keeperScript(main), WINESERVER, WINELOADER],
    ...inputs,
    '',
  ];
  if (lines.some((line) => line.includes('\n'))) return undefined;
  return `${lines.join('\n')}\n${stat.stdout}`;
}

/** Whether a session with this mark takes the layers of the record. */
const asksFor = ({ base, layers }: PrefixRecord, { overlays, cwd }: SessionMark): boolean =>
  overlays === '' ||
  (base === undefined && JSON.stringify(overlaysOf(overlays, cwd)) === JSON.stringify(layers));

/** What is in the prefix. Directories show by their times what came into them. */
function ownInputs({ folder, driveC, state, record }: SessionPaths): string[] {
  const files = [...HIVES.map((hive) => join(folder, fileOf(hive))), join(state, 'registry.json')];
  return [folder, driveC, record, ...files];
}

/** Layers by the names at which they are sought. */
function layerInputs({ base, layers }: PrefixRecord, env: NodeJS.ProcessEnv): string[] {
  const places = layers.map((name) => layerPlace(name, env));
  return base === undefined ? places : [...places, currentOf(base, env)];
}

/** Where the registry of a layer is sought: what there is, and the folders in which more could come to be. */
function registryInputs({ driveC }: Below): string[] {
  const beside = dirname(driveC);
  const folders = [join(driveC, INNER), join(beside, '.varve'), beside].filter(existsSync);
  const files = folders.flatMap((folder) =>
    [DELTA_FILE, ...HIVES.map(fileOf)].map((name) => join(folder, name)),
  );
  return [driveC, ...folders, ...files.filter(existsSync)];
}

const currentOf = (base: string, env: NodeJS.ProcessEnv): string =>
  join(winePlaces(env).bases, base.replace(/@.*/, ''), 'current');

/** Whether it would not move to another version of its base. */
function standsOnCurrent({ base, follows }: PrefixRecord, env: NodeJS.ProcessEnv): boolean {
  if (base === undefined || !follows) return true;
  const current = currentOf(base, env);
  return realpathSync(current) === realpathSync(join(dirname(current), base.replace(/.*@/, '')));
}
