// A file becomes a layer: an image, an archive, or a .reg file of regedit. Bases are made by base.ts, from the same files.
// Called by `varve wine import`; what export.ts writes comes back as it was.
// The layer appears by one rename.

import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { extractTree } from '../../tree/extract.js';
import { winePlaces } from '../prefix/places.js';
import { DELTA_FILE, registryOf, understood } from '../prefix/registry-source.js';
import { deltaOfFull } from '../registry/compose.js';
import { EMPTY_DELTA, type RegistryDelta } from '../registry/delta.js';
import { parseDelta } from '../registry/delta-text.js';
import { fileOf } from '../registry/hive.js';
import { readRegedit } from '../registry/regedit-read.js';
import { openArchiveForm } from './archive.js';
import { type OpenForm, openForm, takeBeside } from './form.js';
import { imageAt, isImageNamed, placeImage } from './images.js';
import { BASE_FILE, LAYER_FILE, type LayerManifest, parseLayer } from './manifest.js';
import { requireNoLayer } from './shelf.js';
import { shelveLayer } from './shelve.js';
import { openStage, publish, withLibrary } from './stage.js';

export interface ImportRequest {
  readonly file: string;
  readonly name: string;
  /** An image stays where it is. */
  readonly link: boolean;
  /** An image becomes a folder. */
  readonly unpack: boolean;
  readonly env: NodeJS.ProcessEnv;
}

/** What a file holds: a whole prefix, or changes. @throws MountError of kind `layer`. */
export async function kindOfFile(file: string): Promise<'base' | 'layer'> {
  if (isRegedit(file)) return 'layer';
  const form = await openFile(file);
  try {
    const beside = takeBeside(form.root);
    if (beside.has(BASE_FILE) || beside.has(fileOf('system'))) return 'base';
    if (beside.has(LAYER_FILE) || beside.has(DELTA_FILE)) return 'layer';
  } finally {
    form.close();
  }
  throw new MountError('option', `${file}: nothing in it says what it is: say --base or --layer`);
}

/** @returns where the layer is. @throws MountError; then there is no such layer. */
export async function importLayer(request: ImportRequest): Promise<string> {
  const { file, name, link, unpack, env } = request;
  const places = winePlaces(env);
  requireNoLayer(name, places);
  const stage = openStage(places);
  try {
    if (!isRegedit(file) && isImageNamed(file) && !unpack) {
      const made = join(stage.folder, 'layer.erofs');
      await placeImage(file, made, link);
      const target = join(places.layers, `${name}.erofs`);
      await withLibrary(places, () => {
        requireNoLayer(name, places);
        const objects = `${made}.objects`;
        if (existsSync(objects)) publish(objects, `${target}.objects`);
        publish(made, target);
      });
      return target;
    }
    if (link) throw new MountError('option', `--link: ${file}: is no image: leave it out`);
    const made = join(stage.folder, 'layer');
    mkdirSync(made);
    const { delta, manifest } = await contentOf(file, join(made, 'drive_c'));
    await shelveLayer(made, name, delta, manifest, places);
    return join(places.layers, name);
  } finally {
    stage.close();
  }
}

/** Writes the files of a layer. @returns the rest of it. */
async function contentOf(
  file: string,
  driveC: string,
): Promise<{ delta: RegistryDelta; manifest: LayerManifest }> {
  const fresh: LayerManifest = {
    version: 1,
    made: new Date().toISOString(),
    from: `import of ${resolve(file)}`,
  };
  if (isRegedit(file)) {
    mkdirSync(driveC);
    return { delta: understood(file, () => readRegedit(readFileSync(file))), manifest: fresh };
  }
  const form = await openFile(file);
  return takeForm(form, file, driveC, fresh);
}

/** What a file holds, as one tree. */
async function openFile(file: string): Promise<OpenForm> {
  if (!isImageNamed(file)) return openArchiveForm(file);
  return openForm({ ...imageAt(file), isImage: true });
}

function takeForm(
  form: OpenForm,
  file: string,
  driveC: string,
  fresh: LayerManifest,
): { delta: RegistryDelta; manifest: LayerManifest } {
  try {
    const beside = takeBeside(form.root);
    const [warning] = extractTree(form.root, driveC);
    if (warning !== undefined) {
      throw new MountError('permission', `${file}: ${warning.path}: ${warning.problem}`);
    }
    const text = beside.get(LAYER_FILE)?.toString();
    const manifest = text === undefined ? fresh : parseLayer(text, `${file}: ${LAYER_FILE}`);
    return { delta: deltaIn(beside, file), manifest };
  } finally {
    form.close();
  }
}

/** A whole registry as a layer sets all that it has. */
function deltaIn(beside: ReadonlyMap<string, Buffer>, file: string): RegistryDelta {
  const delta = beside.get(DELTA_FILE);
  if (delta !== undefined) return understood(`${file}: ${DELTA_FILE}`, () => parseDelta(delta));
  if (!beside.has(fileOf('system'))) return EMPTY_DELTA;
  return deltaOfFull(registryOf(file, (hive) => beside.get(fileOf(hive))));
}

/** Whether a file begins as regedit's do, in any of its encodings. @throws MountError of kind `layer`. */
function isRegedit(file: string): boolean {
  const head = Buffer.alloc(128);
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    // STORE#NAME is looked for elsewhere.
    if (file.includes('#')) return false;
    throw new MountError('layer', `${file}: ${reasonOf(error)}: name a file`);
  }
  try {
    const length = readSync(fd, head);
    const text = head.toString('latin1', 0, length).replaceAll('\0', '');
    return /^(?:\xff\xfe|\xef\xbb\xbf)?\s*(?:REGEDIT|Windows Registry Editor)/.test(text);
  } finally {
    closeSync(fd);
  }
}
