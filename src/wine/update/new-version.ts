// Makes the next version of a base: a copy of the current one that a newer Wine has updated, or something given in its place.
// Called by `varve wine update BASE`; what stands on the base moves there by move.ts.
// A version appears by one rename, then `current` by another; the versions before stay what they are.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../../erofs/write.js';
import { O } from '../../linux/constants.js';
import { SysError } from '../../linux/errno.js';
import { emptyPath, UTIME_OMIT, utimensAt } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import { MountError } from '../../stack/errors.js';
import { openBelow } from '../../tree/below.js';
import { extractTree } from '../../tree/extract.js';
import { find, isDirectory, show, type TreeNode, walk } from '../../tree/tree.js';
import { compareNodes } from '../../union/compare.js';
import { fillVersion, keepVersion } from '../library/base.js';
import { manifestOfBase, type OpenForm, openForm, takeBeside } from '../library/form.js';
import { type BaseVersion, findBase, listBases } from '../library/shelf.js';
import { openStage, publish, type Stage, withLibrary } from '../library/stage.js';
import { openWholePrefix } from '../library/whole-prefix.js';
import { updatePristine } from '../library/wineboot.js';
import type { WineBuild } from '../prefix/build.js';
import { type WinePlaces, winePlaces } from '../prefix/places.js';
import { writeFileWhole } from '../prefix/write-file.js';

export interface VersionRequest {
  /** Of the base. */
  readonly name: string;
  /** A prefix folder, an image, STORE#NAME or an archive; undefined: `wine` updates the current version. */
  readonly from?: string;
  readonly wine: () => WineBuild;
  readonly env: NodeJS.ProcessEnv;
  /** Also where the current version was made by this very Wine. */
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly onProgress?: (text: string) => void;
}

export interface NewVersion {
  /** `NAME@N`: the current version before. */
  readonly from: string;
  /** The current one now, or what it would be. */
  readonly to: string;
  readonly made: boolean;
  /** Why nothing was made. */
  readonly reason?: 'same' | 'dry-run';
  readonly path?: string;
  /** As `wine --version` says. */
  readonly wine?: string;
  /** Files that are not what they were. */
  readonly changed?: number;
}

/** @throws MountError; then the base is what it was. */
export async function makeVersion(request: VersionRequest): Promise<NewVersion> {
  const { name, from, env, onProgress } = request;
  const places = winePlaces(env);
  const old = findBase(name, places);
  const number = nextNumber(name, places);
  const names = { from: old.reference, to: `${name}@${number}` };
  const wine = from === undefined ? request.wine() : undefined;
  if (wine !== undefined && request.force !== true && (await isMadeBy(old, wine))) {
    return { ...names, to: old.reference, made: false, reason: 'same', wine: wine.version };
  }
  if (request.dryRun) {
    return { ...names, made: false, reason: 'dry-run', ...(wine && { wine: wine.version }) };
  }
  const stage = openStage(places);
  try {
    const made = join(stage.folder, 'base');
    mkdirSync(made);
    const changed =
      wine === undefined
        ? await fromElsewhere(made, stage, request)
        : await byWine(made, stage, old, wine, request);
    onProgress?.(`base ${name}: writing it to disk`);
    const file = existsSync(join(made, '1.erofs')) ? '1.erofs' : '1';
    const target = join(places.bases, name, file.replace('1', String(number)));
    await withLibrary(places, () => {
      if (nextNumber(name, places) !== number) {
        throw new MountError('busy', `base ${name}: another command has just updated it`);
      }
      const objects = join(made, `${file}.objects`);
      if (existsSync(objects)) renameSync(objects, `${target}.objects`);
      publish(join(made, file), target);
      setCurrent(name, number, places);
    });
    return { ...names, made: true, path: target, ...(wine && { wine: wine.version }), changed };
  } finally {
    stage.close();
  }
}

/** One more than any version that there is or was named. */
function nextNumber(name: string, places: WinePlaces): number {
  const base = listBases(places).find((one) => one.name === name);
  const numbers = base?.versions.map((version) => version.number) ?? [];
  return 1 + Math.max(0, base?.current ?? 0, ...numbers);
}

/**
 * Names a version the current one: what follows the base goes there.
 * @throws MountError: `absent` where there is no such version.
 */
export function setCurrent(name: string, number: number, places: WinePlaces): void {
  const { path } = findBase(`${name}@${number}`, places);
  const folder = join(places.bases, name);
  const temporary = join(folder, `.current-${process.pid}`);
  symlinkSync(path.slice(path.lastIndexOf('/') + 1), temporary);
  renameSync(temporary, join(folder, 'current'));
}

/** Whether a base stands as wine.inf of a build makes it. */
async function isMadeBy(base: BaseVersion, { inf }: WineBuild): Promise<boolean> {
  const infTime = (await manifestOfBase(base))?.infTime;
  if (inf === undefined || infTime === undefined) return false;
  return Math.floor(statSync(inf).mtimeMs / 1000) === infTime;
}

async function fromElsewhere(
  made: string,
  stage: Stage,
  { name, from, wine, env, onProgress }: VersionRequest,
): Promise<number | undefined> {
  await fillVersion(made, stage, {
    name,
    env,
    wine,
    ...(from === undefined ? {} : { from }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  return undefined;
}

/** @returns how many files differ. */
async function byWine(
  made: string,
  stage: Stage,
  old: BaseVersion,
  wine: WineBuild,
  { name, env, onProgress }: VersionRequest,
): Promise<number> {
  const prefix = join(stage.folder, 'prefix');
  const before = await openForm(old);
  try {
    onProgress?.(`base ${name}: copying ${old.reference}`);
    layOut(prefix, before);
    onProgress?.(`base ${name}: ${wine.version} updates it (some seconds)`);
    await updatePristine(prefix, wine, env);
    onProgress?.(`base ${name}: reading what was changed`);
    const changed = await keepTimes(prefix, before, env);
    const user = (await manifestOfBase(old))?.user;
    const facts = {
      from: `wineboot -u on ${old.reference}`,
      wine: wine.version,
      ...(user && { user }),
    };
    const form = await openWholePrefix(prefix, env);
    keepVersion(form, made, facts, join(prefix, 'drive_c'));
    if (old.isImage) await asImage(made);
    return changed;
  } finally {
    before.close();
  }
}

/** A plain prefix with the files of a base: copies, of which Wine may write any. */
function layOut(prefix: string, base: OpenForm): void {
  mkdirSync(prefix);
  const beside = takeBeside(base.root);
  for (const [file, bytes] of beside) {
    // Without its time the update is made whatever the base says of itself.
    if (file.endsWith('.reg')) writeFileWhole(join(prefix, file), bytes);
  }
  const [warning] = extractTree(base.root, join(prefix, 'drive_c'));
  if (warning === undefined) return;
  throw new MountError('permission', `${warning.path}: ${warning.problem}`);
}

/**
 * Wine writes its own programs anew, most of them with the bytes that they had: those get the time that they had, so that
 * nobody takes them for changed.
 * @returns how many files are not what they were.
 */
async function keepTimes(prefix: string, base: OpenForm, env: NodeJS.ProcessEnv): Promise<number> {
  const now = await openWholePrefix(prefix, env);
  let changed = 0;
  const same: [string, TreeNode][] = [];
  try {
    takeBeside(now.root);
    walk(now.root, (path, node) => {
      const was = find(base.root, path);
      if (isDirectory(node)) return;
      const isSame = was?.mode === node.mode && !compareNodes(was, node).content;
      if (!isSame) changed++;
      else if (node.target === undefined) same.push([path, was]);
    });
    walk(base.root, (path, node) => {
      if (!isDirectory(node) && find(now.root, path) === undefined) changed++;
    });
  } finally {
    now.close();
  }
  setTimes(join(prefix, 'drive_c'), same);
  return changed;
}

function setTimes(folder: string, files: readonly (readonly [string, TreeNode])[]): void {
  mapMemory();
  const root = openSync(folder, O.RDONLY | O.DIRECTORY);
  try {
    for (const [path, { mtime, mtimeNsec }] of files) {
      const fd = openBelow(root, path.slice(1), O.RDONLY);
      if (fd < 0) throw new SysError('open', fd, show(path));
      const [low, high] = [mtime % 2 ** 32, Math.floor(mtime / 2 ** 32)];
      utimensAt(fd, emptyPath(), 0, 0, UTIME_OMIT, low, high, mtimeNsec);
      closeSync(fd);
    }
  } finally {
    closeSync(root);
  }
}

/** The version as one file, in the place of its folder. */
async function asImage(made: string): Promise<void> {
  const path = join(made, '1');
  const form = await openForm({ path, isImage: false });
  try {
    await buildImage(form.root, {}, join(made, '1.erofs'));
  } finally {
    form.close();
  }
}
