// The layers of a stack as views, whatever a person names it by: a mount, mount options, or its layers.
// First step of every layer operation; opens for reading, beside a mount that may be using them.
// Marks are trusted.* for root and user.* for others, as in a mount (stack/options.ts); those of composefs are always trusted.*.

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { checkLayers } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { openImage } from '../stack/image-open.js';
import { devicesOfImages, isErofs, isImage } from '../stack/images.js';
import { type KnownMount, knownMounts, type Layers, locateMount } from '../stack/mounts-known.js';
import type { MountOptions } from '../stack/option-table.js';
import { parseOptions } from '../stack/options.js';
import { overrideStatOf } from '../stack/override-stat.js';
import { privilege } from '../stack/privilege.js';
import type { MountSpec } from '../stack/spec.js';
import { type Stack, stackOf } from '../union/changes.js';
import { viewDirectory } from '../union/directory-view.js';
import { viewImage } from '../union/image-view.js';
import { Union } from '../union/union.js';
import type { LayerView, MarkPrefix } from '../union/view.js';

/** How a stack is named: by exactly one of these. */
export interface StackRequest {
  /** A mount point, or a path below one. */
  readonly mount?: string;
  /** Values of -o. */
  readonly options?: readonly string[];
  /** With options: nothing will be written, so that no workdir is needed, and nobody else's use matters. */
  readonly reads?: boolean;
  /** Topmost first: directories and images. */
  readonly layers?: readonly string[];
}

/** What is known of a stack before any layer is opened. */
export interface NamedStack {
  readonly layers: Layers & Partial<Pick<MountSpec, 'devices' | 'index' | 'xattrPermissions'>>;
  /** The live mount of it, if there is one: that which was named, or one with the same upper. */
  readonly mount?: KnownMount;
}

/** @throws MountError: `option`, `absent`, `layer`. */
export async function findStack(request: StackRequest): Promise<NamedStack> {
  const { mount: path, options, layers } = request;
  if (path !== undefined) {
    const { layers: known, mount } = await locateMount(path);
    return { layers: known, mount };
  }
  if (options !== undefined) {
    const { reads = false } = request;
    const parsed = parseOptions([...options], { defaults: '', reads });
    if (reads && parsed.upperdir !== undefined) return asRead(parsed, parsed.upperdir);
    // Any directory will do as mount point: nothing is mounted.
    const spec = checkLayers(parsed, '/proc', !privilege().full);
    return { layers: spec, mount: await mountOver(spec.upperdir) };
  }
  // A variable that is not set would otherwise mean the working directory.
  if (layers?.includes('')) {
    throw new MountError('option', 'an empty argument: name a layer (. is the working directory)');
  }
  const paths = (layers ?? []).map((layer) => resolve(layer));
  for (const layer of paths) requireLayer(layer);
  return {
    layers: {
      lowerdirs: paths,
      datadirs: [],
      userxattr: !privilege().full,
      whiteouts: 'kernel',
      redirectDir: 'on',
    },
  };
}

/** An upper that is only read is checked as a lower is. */
async function asRead(parsed: MountOptions, upper: string): Promise<NamedStack> {
  const { workdir: work, upperdir: _, ...rest } = parsed;
  const asLower = { ...rest, lowerdirs: [upper, ...parsed.lowerdirs] };
  const { lowerdirs, ...spec } = checkLayers(asLower, '/proc', !privilege().full);
  const [upperdir, ...lowers] = lowerdirs;
  const workdir = work === undefined ? undefined : resolve(work);
  return {
    layers: { ...spec, lowerdirs: lowers, upperdir, workdir },
    mount: await mountOver(upperdir),
  };
}

async function mountOver(upperdir: string | undefined): Promise<KnownMount | undefined> {
  if (upperdir === undefined) return undefined;
  return (await knownMounts()).findLast((mount) => mount.layers?.upperdir === upperdir);
}

function requireLayer(path: string): void {
  let usable: boolean;
  try {
    usable = !isImage(path) || isErofs(path);
  } catch (error) {
    throw new MountError('layer', `${path}: cannot be read: ${(error as Error).message}`);
  }
  if (!usable) throw new MountError('layer', `${path}: neither a directory nor an EROFS image`);
}

/** The opened layers of a stack. */
export interface OpenLayers {
  /** Topmost first: the upper, if there is one, then the lowers. */
  readonly layers: readonly LayerView[];
  readonly data: readonly LayerView[];
  readonly aufs: boolean;
  readonly overrideStat?: string;
  /** Of hard links, beside the upper; where there is one. */
  readonly index?: LayerView;
  readonly marks: MarkPrefix;
  close(): void;
}

/** @throws MountError `layer`, `permission`. */
export function openLayers(named: NamedStack): OpenLayers {
  const { upperdir, lowerdirs, datadirs, devices = [], userxattr, whiteouts } = named.layers;
  if (!userxattr && !privilege().full) {
    throw new MountError(
      'permission',
      'the marks of this stack are trusted.* attributes, which root alone can read: run it as root, or add -o userxattr',
    );
  }
  const marks: MarkPrefix = userxattr ? 'user.overlay.' : 'trusted.overlay.';
  const further = devicesOfImages({ lowerdirs, datadirs, devices });
  const opened: LayerView[] = [];
  const open = (path: string): LayerView => {
    const view = openLayer(path, marks, further.get(path));
    opened.push(view);
    return view;
  };
  const close = (): void => {
    for (const view of opened) view.close();
  };
  try {
    const layers = [...(upperdir === undefined ? [] : [upperdir]), ...lowerdirs].map(open);
    const data = datadirs.map(open);
    const overrideStat = overrideStatOf(named.layers.xattrPermissions ?? 0);
    const index = upperdir === undefined ? undefined : openIndex(named, open);
    return { layers, data, aufs: whiteouts === 'aufs', overrideStat, index, marks, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** A mount with index=off has none that counts; a mount that never had a hard link to keep has none at all. */
function openIndex(
  { layers }: NamedStack,
  open: (path: string) => LayerView,
): LayerView | undefined {
  if (layers.workdir === undefined || layers.index === false) return undefined;
  const path = `${layers.workdir}/index`;
  return existsSync(path) ? open(path) : undefined;
}

function openLayer(path: string, marks: MarkPrefix, devices?: readonly string[]): LayerView {
  if (!isImage(path)) {
    try {
      return viewDirectory(path, marks);
    } catch (error) {
      const isForbidden = (error as NodeJS.ErrnoException).code === 'EACCES';
      throw new MountError(
        isForbidden ? 'permission' : 'layer',
        `${path}: cannot be opened: ${(error as Error).message}`,
      );
    }
  }
  const { image, hasTrustedMarks, close } = openImage(path, devices);
  return viewImage(image, path, hasTrustedMarks ? 'trusted.overlay.' : marks, close);
}

/** The stack as it is without its topmost layer, and with it. @throws MountError when there is no layer. */
export function asStack({ layers, data, ...options }: OpenLayers): Stack {
  const [upper, ...lowers] = layers;
  if (upper === undefined) throw new MountError('option', 'no layer is named');
  return stackOf([upper, ...lowers], data, options);
}

/** All layers as one tree. */
export function asUnion({ layers, data, ...options }: OpenLayers): Union {
  return new Union(layers, data, options);
}
