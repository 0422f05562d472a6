// Writes a base, a layer or a prefix to one file: an image, a tar archive, or what it changes of the registry for regedit.
// Called by `varve wine export`; import.ts is the way back. Equal content gives equal bytes.
// Follows: form.ts for the tree, OCI image-spec v1.1 layer.md for deletions in archives.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Compression } from '../../erofs/write-options.js';
import { type TreeOutput, type Written, writeTree } from '../../ops/layers/tree-output.js';
import { MountError } from '../../stack/errors.js';
import { privilege } from '../../stack/privilege.js';
import { scan } from '../../tree/scan.js';
import { isDirectory, show, type TreeNode, walk } from '../../tree/tree.js';
import { toOciForm } from '../../union/oci-form.js';
import type { MarkPrefix } from '../../union/view.js';
import { ownDelta } from '../prefix/materialise.js';
import { pathsOf, type WinePlaces, winePlaces } from '../prefix/places.js';
import { DELTA_FILE, registryOf, understood } from '../prefix/registry-source.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { deltaOfFull } from '../registry/compose.js';
import { EMPTY_DELTA, type RegistryDelta } from '../registry/delta.js';
import { parseDelta, writeDelta } from '../registry/delta-text.js';
import { fileOf } from '../registry/hive.js';
import { writeRegedit } from '../registry/regedit.js';
import { archOf } from './base.js';
import { digestOf, type OpenForm, openForm, putBeside, refusePending, takeBeside } from './form.js';
import { holdNamed } from './hold.js';
import {
  BASE_FILE,
  type BaseManifest,
  LAYER_FILE,
  type LayerManifest,
  manifestText,
} from './manifest.js';
import { findBase, findLayer, labelOf, listBases, listLayers, listPrefixes } from './shelf.js';
import { openWholePrefix } from './whole-prefix.js';

export type Kind = 'base' | 'layer' | 'prefix';

export interface ExportRequest {
  /** A name, `NAME@N`, or the path of a prefix. */
  readonly what: string;
  /** Where a name is one of several things. */
  readonly kind?: Kind;
  /** Of a prefix: only what it has changed itself, as a layer. */
  readonly own: boolean;
  /** Ends in .erofs or .img, .tar, .reg. */
  readonly file: string;
  readonly force: boolean;
  readonly compression: readonly Compression[];
  readonly env: NodeJS.ProcessEnv;
  readonly onProgress?: (text: string) => void;
}

export interface Exported {
  readonly kind: Kind;
  readonly file: string;
  readonly form: 'image' | 'tar' | 'reg';
  readonly bytes: number;
  readonly warnings: readonly string[];
}

/** Overlayfs's own notes about a place, which mean nothing elsewhere. */
const NOTE = /^(?:trusted|user)\.overlay\.(?:origin|impure|nlink|upper|uuid|protattr)$/;
const MARK = /^(?:trusted|user)\.overlay\.(.*)$/s;

/** @throws MountError; then there is no such file. */
export async function exportThing(request: ExportRequest): Promise<Exported> {
  const { what, env, file, force } = request;
  const places = winePlaces(env);
  const form = formOf(file);
  if (!force && statSync(file, { throwIfNoEntry: false }) !== undefined) {
    throw new MountError('option', `${file}: is there already: name a new file, or say --force`);
  }
  const kind = request.kind ?? kindOf(what, places);
  if (request.own && kind !== 'prefix') {
    throw new MountError('option', `--own: ${what} is a ${kind}: it is for prefixes`);
  }
  const isWhole = kind === 'base' || (kind === 'prefix' && !request.own);
  const tree = await open(kind, request, places);
  try {
    if (form === 'reg') return { kind, form, file, ...writeReg(tree.root, isWhole, file) };
    const written = await write(tree.root, form, !isWhole, request);
    return { kind, form, file, bytes: written.bytes ?? 0, warnings: written.warnings };
  } finally {
    tree.close();
  }
}

function formOf(file: string): Exported['form'] {
  if (/\.(?:erofs|img)$/.test(file)) return 'image';
  if (file.endsWith('.tar')) return 'tar';
  if (file.endsWith('.reg')) return 'reg';
  throw new MountError(
    'option',
    `${file}: its name says not what it is to be: let it end in .erofs, .tar or .reg`,
  );
}

/** @throws MountError: `absent`, `option` where a name is several things. */
function kindOf(what: string, places: WinePlaces): Kind {
  if (what.includes('/') || what === '.') return 'prefix';
  if (what.includes('@')) return 'base';
  const kinds: Kind[] = [
    ...(listBases(places).some(({ name }) => name === what) ? (['base'] as const) : []),
    ...(listLayers(places).some(({ name }) => name === what) ? (['layer'] as const) : []),
    ...(listPrefixes(places).some((one) => labelOf(one) === what) ? (['prefix'] as const) : []),
  ];
  const [kind] = kinds;
  if (kind !== undefined && kinds.length === 1) return kind;
  throw kind === undefined
    ? new MountError(
        'absent',
        `${what}: no base, layer or prefix is called so: \`varve wine ls\` lists them`,
      )
    : new MountError('option', `${what}: is a ${kinds.join(' and a ')}: say --${kind}`);
}

async function open(
  kind: Kind,
  { what, own, env }: ExportRequest,
  places: WinePlaces,
): Promise<OpenForm> {
  if (kind === 'base') return openForm(findBase(what, places));
  if (kind === 'layer') return completeLayer(what, places);
  const held = await holdNamed(what, 'export it', env);
  try {
    const form = own
      ? openOwn(held.folder, what)
      : withManifest(await openWholePrefix(held.folder, env), held.folder);
    const close = (): void => {
      form.close();
      held.release();
    };
    return { root: form.root, close };
  } catch (error) {
    held.release();
    throw error;
  }
}

async function completeLayer(name: string, places: WinePlaces): Promise<OpenForm> {
  const layer = findLayer(name, places);
  await refusePending(layer);
  return openForm(layer);
}

/** What a prefix has changed, as a layer. */
function openOwn(folder: string, name: string): OpenForm {
  const tree = scan(pathsOf(folder).driveC);
  const manifest: LayerManifest = {
    version: 1,
    made: timeOf(folder),
    from: `prefix ${name.includes('/') ? folder : name}`,
  };
  putBeside(
    tree.root,
    new Map<string, Uint8Array>([
      [DELTA_FILE, writeDelta(ownDelta(folder))],
      [LAYER_FILE, Buffer.from(manifestText(manifest))],
    ]),
  );
  return tree;
}

/** A whole prefix becomes a base: its time is that of its registry, so that the same prefix gives the same file. */
function withManifest(form: OpenForm, folder: string): OpenForm {
  const digest = digestOf(form.root);
  const beside = takeBeside(form.root);
  const manifest: BaseManifest = {
    version: 1,
    arch: archOf(beside.get(fileOf('system')) as Buffer),
    made: timeOf(folder),
    from: folder,
    digest,
  };
  beside.set(BASE_FILE, Buffer.from(manifestText(manifest)));
  putBeside(form.root, beside);
  return form;
}

const timeOf = (folder: string): string =>
  statSync(join(folder, fileOf('system'))).mtime.toISOString();

function writeReg(
  root: TreeNode,
  isWhole: boolean,
  file: string,
): Pick<Exported, 'bytes' | 'warnings'> {
  const beside = takeBeside(root);
  let delta: RegistryDelta = EMPTY_DELTA;
  if (isWhole) delta = deltaOfFull(registryOf('.wine', (hive) => beside.get(fileOf(hive))));
  else {
    const bytes = beside.get(DELTA_FILE);
    if (bytes !== undefined) delta = understood(DELTA_FILE, () => parseDelta(bytes));
  }
  const bytes = writeRegedit(delta);
  writeFileWhole(file, bytes);
  return { bytes: bytes.length, warnings: [] };
}

function write(
  root: TreeNode,
  form: 'image' | 'tar',
  isLayer: boolean,
  { file, compression, onProgress }: ExportRequest,
): Promise<Written> {
  const marks: MarkPrefix = privilege().full ? 'trusted.overlay.' : 'user.overlay.';
  const output: TreeOutput = { kind: form, path: file };
  if (form === 'image') {
    forEverybody(root);
    return writeTree(root, output, { build: { compression }, isLayer, onProgress });
  }
  const reserved = toOciForm(root, marks);
  if (reserved !== undefined) {
    throw new MountError(
      'layer',
      `${show(reserved)}: in an archive this name would delete another one: export an image, or rename it`,
    );
  }
  return writeTree(root, output, { isLayer, onProgress });
}

/** Marks under both names that overlayfs knows: root reads trusted.*, everybody else user.*. */
export function forEverybody(root: TreeNode): void {
  const done = new Set<TreeNode>();
  walk(root, (_path, node) => {
    if (done.has(node) || node.xattrs === undefined) return;
    if (!isDirectory(node)) done.add(node);
    const kept = new Map<string, Uint8Array>();
    for (const [name, value] of node.xattrs) {
      const mark = MARK.exec(name)?.[1];
      if (NOTE.test(name)) continue;
      if (mark === undefined) kept.set(name, value);
      else for (const by of ['trusted', 'user']) kept.set(`${by}.overlay.${mark}`, value);
    }
    const sorted = [...kept].sort(([a], [b]) => (a < b ? -1 : 1));
    node.xattrs = sorted.length === 0 ? undefined : new Map(sorted);
  });
}
