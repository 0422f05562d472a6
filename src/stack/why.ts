// Which layer owns a path of a stack, what that hides, and which marks on the way decided it.
// Called by `varve why`; reads the layers themselves, so that the answer does not depend on a server.
// Follows ovl_lookup() of fs/overlayfs/namei.c (Linux 6.18): whiteouts, opaque, redirect, metacopy.

import { join, posix } from 'node:path';
import { type LayerView, type ObjectKind, viewLayer } from './layer-view.js';
import type { Layers } from './mounts-known.js';

/** What a layer has at a path. */
export type Found = ObjectKind | 'whiteout' | 'nothing';

/**
 * What it means for the union. owner: this is what is seen. merged: its entries are seen among others. data: only the
 * content comes from here. whiteout: deletes what is below. hidden: something above decided. absent: nothing here.
 */
export type Effect = 'owner' | 'merged' | 'data' | 'whiteout' | 'hidden' | 'absent';

export interface LayerAnswer {
  /** `upper`, `lower 1`, `data 1`... */
  readonly role: string;
  /** The layer's directory. */
  readonly layer: string;
  /** Where the path lies in it, absolute; a redirect may have led elsewhere. */
  readonly path: string;
  readonly found: Found;
  readonly effect: Effect;
  /** Bytes, of a file. */
  readonly size?: number;
  /** Marks on this object: `opaque`, `redirect=/a/b`, `metacopy`, `origin`. */
  readonly marks: readonly string[];
  /** For hidden: what decided, in words. */
  readonly because?: string;
}

/** A mark met on the way to the path. */
export interface WayMark {
  /** Path inside the mount. */
  readonly at: string;
  readonly role: string;
  readonly mark: string;
}

export interface WhyAnswer {
  /** Path inside the mount, empty for its root. */
  readonly path: string;
  readonly exists: boolean;
  /** Role and place of the owner, when it exists. */
  readonly owner?: { readonly role: string; readonly path: string };
  readonly layers: readonly LayerAnswer[];
  readonly way: readonly WayMark[];
}

/** One layer while the path is walked. */
interface Walker {
  readonly role: string;
  readonly root: string;
  readonly view: LayerView;
  readonly dataOnly: boolean;
  /** Directory inside the layer in which the next name is looked for; undefined: the way ended here. */
  directory: string | undefined;
  /** What cut this layer off, in words. */
  cut: string | undefined;
}

interface Seen {
  readonly found: Found;
  readonly path: string;
  /** Bytes, of a file. */
  readonly size?: number;
  readonly opaque: boolean;
  readonly redirect?: string;
  readonly metacopy: boolean;
  readonly marks: readonly string[];
}

/** @param inside path inside the mount, without leading slash; `.` and `..` are resolved as text. */
export function explain(layers: Layers, inside: string): WhyAnswer {
  const walkers = walkersOf(layers);
  try {
    return explainWith(layers, walkers, inside);
  } finally {
    for (const { view } of walkers) view.close();
  }
}

function explainWith(layers: Layers, walkers: readonly Walker[], inside: string): WhyAnswer {
  const names = posix
    .normalize(`/${inside}`)
    .split('/')
    .filter((name) => name !== '');
  const way: WayMark[] = [];
  let answers: LayerAnswer[] = [];
  const last = Math.max(names.length, 1);
  for (let i = 0; i < last; i++) {
    answers = step(
      layers,
      walkers,
      names[i] ?? '',
      names.slice(0, i + 1).join('/'),
      i + 1 === last,
      way,
    );
  }
  const owner = answers.find((answer) => answer.effect === 'owner');
  return {
    path: names.join('/'),
    exists: owner !== undefined,
    ...(owner === undefined ? {} : { owner: { role: owner.role, path: owner.path } }),
    layers: answers,
    way,
  };
}

function walkersOf(layers: Layers): Walker[] {
  const walker = (role: string, root: string, dataOnly = false): Walker => ({
    role,
    root,
    view: viewLayer(root),
    dataOnly,
    directory: '',
    cut: undefined,
  });
  return [
    ...(layers.upperdir === undefined ? [] : [walker('upper', layers.upperdir)]),
    ...layers.lowerdirs.map((path, i) => walker(`lower ${i + 1}`, path)),
    ...layers.datadirs.map((path, i) => walker(`data ${i + 1}`, path, true)),
  ];
}

/** Looks one name up in all layers, and moves every layer on to it. */
function step(
  layers: Layers,
  walkers: readonly Walker[],
  name: string,
  at: string,
  final: boolean,
  way: WayMark[],
): LayerAnswer[] {
  const answers: LayerAnswer[] = [];
  // As in the kernel, `off` only keeps redirects from being made.
  const follows = layers.redirectDir !== 'nofollow';
  let owner = false;
  /** What a mark above says about the layers below. */
  let decided: string | undefined;
  let lookFor = name;
  let wantsData = false;

  for (const walker of walkers) {
    if (walker.dataOnly && !wantsData) continue;
    const seen = look(layers, walker, lookFor);
    const cut = walker.cut ?? decided;
    const answer = (effect: Effect): void => {
      answers.push({
        role: walker.role,
        layer: walker.root,
        path: seen.path,
        found: seen.found,
        effect,
        ...(seen.found === 'file' ? { size: seen.size } : {}),
        marks: seen.marks,
        ...(effect === 'hidden' ? { because: cut } : {}),
      });
    };
    const note = (mark: string): void => {
      if (!final) way.push({ at, role: walker.role, mark });
    };

    walker.cut = cut;
    walker.directory = seen.found === 'directory' ? relative(walker, seen.path) : undefined;
    if (seen.found === 'nothing') {
      answer('absent');
      continue;
    }
    if (wantsData && seen.found === 'file') {
      answer(seen.metacopy ? 'hidden' : 'data');
      if (!seen.metacopy) wantsData = false;
      continue;
    }
    if (cut !== undefined || walker.dataOnly) {
      answer('hidden');
      continue;
    }
    if (seen.found === 'whiteout') {
      answer('whiteout');
      note('whiteout');
      decided = `whiteout of /${at} in ${walker.role}`;
      continue;
    }
    if (seen.found !== 'directory') {
      // A file under a directory of a layer above is not seen; a file on top ends the search.
      if (owner) {
        decided = `a directory above covers a ${seen.found} in ${walker.role}`;
        walker.cut = decided;
        answers.push(covered(walker, seen, decided));
        continue;
      }
      answer('owner');
      owner = true;
      if (seen.metacopy) {
        wantsData = true;
        if (seen.redirect !== undefined)
          lookFor = redirectWalkers(layers, walkers, walker, seen.redirect, lookFor);
      } else {
        decided = `${seen.found} in ${walker.role}`;
      }
      continue;
    }
    answer(owner ? 'merged' : 'owner');
    owner = true;
    if (seen.opaque) {
      note('opaque');
      decided = `opaque directory /${at} in ${walker.role}`;
    } else if (seen.redirect !== undefined && follows) {
      note(`redirect to ${seen.redirect}`);
      lookFor = redirectWalkers(layers, walkers, walker, seen.redirect, lookFor);
    }
  }
  return answers;
}

function covered(walker: Walker, seen: Seen, because: string): LayerAnswer {
  return {
    role: walker.role,
    layer: walker.root,
    path: seen.path,
    found: seen.found,
    effect: 'hidden',
    marks: seen.marks,
    because,
  };
}

/**
 * An absolute redirect starts again at the root of every layer below; a relative one changes only the name. What the
 * folders on its way say (whiteout, opaque, redirect) counts for the layers further below (ovl_lookup_layer).
 * @returns the name to look for below.
 */
function redirectWalkers(
  layers: Layers,
  walkers: readonly Walker[],
  from: Walker,
  redirect: string,
  name: string,
): string {
  const parts = partsOf(redirect);
  if (parts === undefined) return name;
  if (!redirect.startsWith('/')) return parts[0] as string;
  let path = parts;
  let cut: string | undefined;
  for (const walker of walkers.slice(walkers.indexOf(from) + 1)) {
    const here = path;
    walker.directory = here.slice(0, -1).join('/');
    walker.cut = cut;
    if (walker.dataOnly) continue;
    for (let i = 0; i < here.length - 1; i++) {
      const directory = here.slice(0, i).join('/');
      const seen = look(layers, { ...walker, directory }, here[i] as string);
      const at = here.slice(0, i + 1).join('/');
      if (seen.found !== 'directory') {
        if (seen.found !== 'nothing') cut = `${seen.found} of /${at} in ${walker.role}`;
        break;
      }
      if (seen.opaque) {
        cut = `opaque directory /${at} in ${walker.role}`;
        continue;
      }
      const onTheWay = seen.redirect === undefined ? undefined : partsOf(seen.redirect);
      if (onTheWay === undefined || layers.redirectDir === 'nofollow') continue;
      const rest = here.slice(i + 1);
      const absolute = seen.redirect?.startsWith('/');
      const before = absolute ? [] : path.slice(0, path.length - rest.length - 1);
      path = [...before, ...onTheWay, ...rest];
      if (absolute) cut = undefined;
    }
  }
  return parts.at(-1) as string;
}

/** The names of a redirect; what no writer makes is not followed, for the kernel refuses it as well. */
function partsOf(redirect: string): string[] | undefined {
  const parts = redirect.split('/').filter((part) => part !== '');
  if (parts.includes('..') || parts.includes('.') || parts.length === 0) return undefined;
  return redirect.startsWith('/') || parts.length === 1 ? parts : undefined;
}

function relative(walker: Walker, path: string): string {
  return path.slice(walker.root === '/' ? 1 : walker.root.length + 1);
}

/** What one layer has under one name. */
function look(layers: Layers, walker: Walker, name: string): Seen {
  const none = (path: string): Seen => ({
    found: 'nothing',
    path,
    opaque: false,
    metacopy: false,
    marks: [],
  });
  if (walker.directory === undefined) return none('');
  const { view, directory } = walker;
  const inside = join('/', directory, name).slice(1);
  const path = join(walker.root, inside);
  const aufs = layers.whiteouts === 'aufs';
  if (aufs && name !== '') {
    const whiteout = join('/', directory, `.wh.${name}`).slice(1);
    if (view.look(whiteout) !== undefined) {
      return { ...none(join(walker.root, whiteout)), found: 'whiteout' };
    }
  }
  const object = view.look(inside);
  if (object === undefined) return none(path);
  const marks = readMarks(layers.userxattr && !view.isComposefs, view, inside);
  const isFile = object.found === 'file';
  // A 0/0 character device, or an empty file with the whiteout attribute.
  if (object.isWhiteout || (isFile && object.size === 0 && marks.has('whiteout'))) {
    return { ...none(path), found: 'whiteout' };
  }
  if (aufs && object.found === 'directory' && view.look(join(inside, '.wh..wh..opq'))) {
    marks.set('opaque', 'y');
  }
  const opaque = marks.get('opaque') === 'y';
  return {
    found: object.found,
    path,
    size: object.size,
    opaque,
    redirect: marks.get('redirect'),
    metacopy: marks.has('metacopy') && isFile,
    marks: [...marks]
      .filter(([mark, value]) => mark !== 'opaque' || value === 'y')
      .map(([mark, value]) => (mark === 'redirect' ? `${mark}=${value}` : mark)),
  };
}

/** The overlay's attributes of an object: name without prefix, value as text. */
function readMarks(userxattr: boolean, view: LayerView, path: string): Map<string, string> {
  const marks = new Map<string, string>();
  const prefix = userxattr ? 'user.overlay.' : 'trusted.overlay.';
  for (const name of ['opaque', 'redirect', 'metacopy', 'origin', 'whiteout']) {
    const value = view.attribute(path, `${prefix}${name}`);
    if (value !== undefined) marks.set(name, value);
  }
  if (userxattr && view.attribute(path, 'user.fuseoverlayfs.opaque') === 'y') {
    marks.set('opaque', 'y');
  }
  return marks;
}
