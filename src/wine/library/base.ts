// Makes a base: a pristine prefix by wineboot, a copy of a prefix that is there, or an image as it is.
// Called by `varve wine base add`, and by create where nothing is named and nothing is there; update/ makes further versions.
// A base appears by one rename, with everything on disk, and is never written again.

import { existsSync, mkdirSync, realpathSync, renameSync, statSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MountError } from '../../stack/errors.js';
import { extractTree } from '../../tree/extract.js';
import { find, type TreeNode } from '../../tree/tree.js';
import type { WineBuild } from '../prefix/build.js';
import { TIMESTAMP } from '../prefix/materialise.js';
import { winePlaces } from '../prefix/places.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { fileOf, HIVES } from '../registry/hive.js';
import { openArchiveForm } from './archive.js';
import { digestOf, type OpenForm, openForm, putBeside, takeBeside } from './form.js';
import { imageAt, isImageNamed, placeImage } from './images.js';
import { BASE_FILE, type BaseManifest, manifestText, parseBase } from './manifest.js';
import { requireNoBase } from './shelf.js';
import { openStage, publish, type Stage, settle, withLibrary } from './stage.js';
import { userName } from './user-name.js';
import { openWholePrefix } from './whole-prefix.js';
import { makePristine } from './wineboot.js';

export interface BaseRequest {
  readonly name: string;
  /** A prefix folder, an image, STORE#NAME, or an archive; undefined: wineboot of `wine` makes it. */
  readonly from?: string;
  /** An image stays where it is. */
  readonly link?: boolean;
  /** An image becomes a folder. */
  readonly unpack?: boolean;
  /** Asked only where it is needed. */
  readonly wine: () => WineBuild;
  readonly env: NodeJS.ProcessEnv;
  readonly onProgress?: (text: string) => void;
}

export interface AddedBase {
  readonly reference: string;
  readonly path: string;
  readonly wine?: string;
  readonly digest?: string;
}

/** @throws MountError; then there is no such base. */
export async function addBase(request: BaseRequest): Promise<AddedBase> {
  const places = winePlaces(request.env);
  const { name } = request;
  requireNoBase(name, places);
  const stage = openStage(places);
  try {
    const made = join(stage.folder, 'base');
    mkdirSync(made);
    const manifest = await fillVersion(made, stage, request);
    const file = existsSync(join(made, '1.erofs')) ? '1.erofs' : '1';
    symlinkSync(file, join(made, 'current'));
    request.onProgress?.(`base ${name}: writing it to disk`);
    const target = join(places.bases, name);
    settle(made);
    await withLibrary(places, () => {
      requireNoBase(name, places);
      publish(made, target);
    });
    const { wine, digest } = manifest ?? {};
    return { reference: `${name}@1`, path: join(target, file), wine, digest };
  } finally {
    stage.close();
  }
}

/** Makes `made/1`, a folder, or `made/1.erofs`. */
export async function fillVersion(
  made: string,
  stage: Stage,
  request: BaseRequest,
): Promise<BaseManifest | undefined> {
  const { from } = request;
  if (from === undefined) return fromWineboot(made, stage, request);
  const isFolder = !from.includes('#') && statSync(from, { throwIfNoEntry: false })?.isDirectory();
  const isImage = isFolder !== true && isImageNamed(from);
  if (request.link === true && !isImage) {
    throw new MountError('option', `--link: ${from}: is no image: leave it out`);
  }
  if (isFolder) return fromPrefix(made, from, request);
  return isImage ? fromImage(made, from, request) : fromForm(made, from, openArchiveForm(from));
}

async function fromWineboot(
  made: string,
  stage: Stage,
  { name, wine, env, onProgress }: BaseRequest,
): Promise<BaseManifest> {
  const build = wine();
  onProgress?.(`base ${name}: ${build.version} makes a prefix (some seconds)`);
  const prefix = join(stage.folder, 'prefix');
  await makePristine(prefix, build, env);
  onProgress?.(`base ${name}: reading what was made`);
  const facts = { from: 'wineboot -i', wine: build.version, user: userName(env) };
  const form = await openWholePrefix(prefix, env);
  return keepVersion(form, made, facts, join(prefix, 'drive_c'));
}

async function fromPrefix(
  made: string,
  from: string,
  { name, env, onProgress }: BaseRequest,
): Promise<BaseManifest> {
  const folder = realpathSync(from);
  onProgress?.(`base ${name}: copying ${from}`);
  const form = await openWholePrefix(folder, env);
  return keepVersion(form, made, { from: folder, user: profileOf(form.root) });
}

/** The only profile that is there; undefined where there are several. */
function profileOf(root: TreeNode): string | undefined {
  const users = [...(find(root, 'users')?.entries?.keys() ?? [])].filter((n) => n !== 'Public');
  return users.length === 1 ? Buffer.from(users[0] as string, 'latin1').toString() : undefined;
}

/** Writes `made/1`. @param moved the drive_c of a prefix that is ours to take, in place of a copy. */
export function keepVersion(
  form: OpenForm,
  made: string,
  facts: Pick<BaseManifest, 'from' | 'wine' | 'user'>,
  moved?: string,
): BaseManifest {
  const version = join(made, '1');
  try {
    mkdirSync(version);
    const digest = digestOf(form.root);
    const beside = takeBeside(form.root);
    if (moved === undefined) {
      const [warning] = extractTree(form.root, join(version, 'drive_c'));
      if (warning !== undefined) {
        throw new MountError('permission', `${facts.from}: ${warning.path}: ${warning.problem}`);
      }
    } else renameSync(moved, join(version, 'drive_c'));
    const manifest: BaseManifest = {
      version: 1,
      arch: archOf(beside.get(fileOf('system')) as Buffer),
      infTime: infTimeOf(beside.get(TIMESTAMP)),
      made: new Date().toISOString(),
      ...facts,
      digest,
    };
    for (const [name, bytes] of beside) writeFileWhole(join(version, name), bytes);
    writeFileWhole(join(version, BASE_FILE), manifestText(manifest));
    return manifest;
  } finally {
    form.close();
  }
}

/** What the header of system.reg says. */
export function archOf(system: Buffer): 'win32' | 'win64' {
  return /^#arch=win32$/m.test(system.toString('latin1', 0, 512)) ? 'win32' : 'win64';
}

/** Seconds; undefined where updates were off, or nothing is said. */
export function infTimeOf(timestamp: Buffer | undefined): number | undefined {
  const text = timestamp?.toString('latin1').trim();
  return text !== undefined && /^[0-9]{1,12}$/.test(text) ? Number(text) : undefined;
}

async function fromImage(
  made: string,
  from: string,
  { link = false, unpack = false }: BaseRequest,
): Promise<BaseManifest | undefined> {
  if (unpack) return fromForm(made, from, await openForm({ ...imageAt(from), isImage: true }));
  const target = join(made, '1.erofs');
  await placeImage(from, target, link);
  const form = await openForm({ path: target, isImage: true });
  try {
    const beside = takeBeside(form.root);
    requireRegistry(beside, from);
    const text = beside.get(BASE_FILE)?.toString();
    return text === undefined ? undefined : parseBase(text, `${from}: ${BASE_FILE}`);
  } finally {
    form.close();
  }
}

/** What export has written comes back with what it says about itself. */
function fromForm(made: string, from: string, form: OpenForm): BaseManifest {
  const beside = takeBeside(form.root);
  try {
    requireRegistry(beside, from);
    putBeside(form.root, beside);
    const text = beside.get(BASE_FILE)?.toString();
    const known = text === undefined ? undefined : parseBase(text, `${from}: ${BASE_FILE}`);
    const user = known?.user ?? profileOf(form.root);
    return keepVersion(form, made, { from: known?.from ?? resolve(from), wine: known?.wine, user });
  } catch (error) {
    form.close();
    throw error;
  }
}

function requireRegistry(beside: ReadonlyMap<string, Buffer>, from: string): void {
  const missing = HIVES.find((hive) => !beside.has(fileOf(hive)));
  if (missing === undefined) return;
  throw new MountError(
    'layer',
    `${from}: holds no prefix: ${fileOf(missing)} is missing: \`varve wine export\` writes what can be read here`,
  );
}
