// Which layer owns a path of a stack, what that hides, and which marks on the way decided it.
// Called by `varve why`; reads the layers themselves, so that the answer does not depend on a server.
// Follows ovl_lookup() of fs/overlayfs/namei.c (Linux 6.18): whiteouts, opaque, redirect, metacopy.

import { join, posix } from 'node:path';
import { S } from '../linux/constants.js';
import { readable } from '../report/readable.js';
import type { Layers } from '../stack/mounts-known.js';
import { join as below } from '../tree/path.js';
import { isWhiteout } from '../tree/tree.js';
import { marksOf } from '../union/marks.js';
import type { LayerView } from '../union/view.js';
import { type LifeEvent, lifeOf } from './life.js';
import { openLayers } from './open-stack.js';

export type ObjectKind = 'file' | 'directory' | 'symlink' | 'other';

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
  /** What each layer did to it, the lowest first. */
  readonly life: readonly LifeEvent[];
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

/** As all of this file: paths are latin1 until they are told. */
interface Looked {
  readonly found: Found;
  readonly path: string;
  /** Bytes, of a file. */
  readonly size?: number;
  readonly opaque: boolean;
  readonly redirect?: string;
  readonly metacopy: boolean;
  readonly marks: readonly string[];
}

export interface ExplainOptions {
  /** Digests of files in the life. */
  readonly hash?: boolean;
}

/**
 * @param inside path inside the mount, without leading slash; `.` and `..` are resolved as text.
 * @throws MountError when a layer cannot be opened.
 */
export function explain(layers: Layers, inside: string, options: ExplainOptions = {}): WhyAnswer {
  const opened = openLayers({ layers });
  try {
    const roles = rolesOf(layers);
    const walkers = [...opened.layers, ...opened.data].map((view, i) => ({
      role: roles[i] as string,
      root: view.label,
      view,
      dataOnly: i >= opened.layers.length,
      directory: '',
      cut: undefined,
    }));
    const names = posix
      .normalize(`/${Buffer.from(inside).toString('latin1')}`)
      .split('/')
      .filter((name) => name !== '');
    const life = lifeOf(opened, roles, names, options.hash === true);
    return { ...explainWith(layers, walkers, names), life };
  } finally {
    opened.close();
  }
}

function rolesOf({ upperdir, lowerdirs, datadirs }: Layers): string[] {
  return [
    ...(upperdir === undefined ? [] : ['upper']),
    ...lowerdirs.map((_, i) => `lower ${i + 1}`),
    ...datadirs.map((_, i) => `data ${i + 1}`),
  ];
}

function explainWith(
  layers: Layers,
  walkers: readonly Walker[],
  names: readonly string[],
): Omit<WhyAnswer, 'life'> {
  const way: WayMark[] = [];
  let answers: LayerAnswer[] = [];
  const last = Math.max(names.length, 1);
  for (let i = 0; i < last; i++) {
    answers = step(
      layers,
      walkers,
      names[i] ?? '',
      textOf(names.slice(0, i + 1)),
      i + 1 === last,
      way,
    );
  }
  const owner = answers.find((answer) => answer.effect === 'owner');
  return {
    path: textOf(names),
    exists: owner !== undefined,
    ...(owner === undefined ? {} : { owner: { role: owner.role, path: owner.path } }),
    layers: answers,
    way,
  };
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
        path: placeOf(walker, seen.path),
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
    walker.directory = seen.found === 'directory' ? seen.path : undefined;
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
      note(`redirect to ${readable(seen.redirect).text}`);
      lookFor = redirectWalkers(layers, walkers, walker, seen.redirect, lookFor);
    }
  }
  return answers;
}

function covered(walker: Walker, seen: Looked, because: string): LayerAnswer {
  return {
    role: walker.role,
    layer: walker.root,
    path: placeOf(walker, seen.path),
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
      const at = textOf(here.slice(0, i + 1));
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

const textOf = (names: readonly string[]): string => readable(names.join('/')).text;

/** Where something lies, for people. */
function placeOf(walker: Walker, path: string): string {
  return join(walker.root, readable(path).text);
}

/** What one layer has under one name. */
function look(layers: Layers, walker: Walker, name: string): Looked {
  const none = (path: string): Looked => ({
    found: 'nothing',
    path,
    opaque: false,
    metacopy: false,
    marks: [],
  });
  if (walker.directory === undefined) return none('');
  const { view, directory } = walker;
  const inside = name === '' ? directory : below(directory, name);
  const aufs = layers.whiteouts === 'aufs';
  if (aufs && name !== '') {
    const whiteout = below(directory, `.wh.${name}`);
    if (view.look(whiteout) !== undefined) return { ...none(whiteout), found: 'whiteout' };
  }
  const seen = view.look(inside);
  if (seen === undefined) return none(inside);
  const { node } = seen;
  const marks = marksOf(node, view.marks);
  // A 0/0 character device, or an empty file with the whiteout attribute.
  if (isWhiteout(node) || marks.whiteout) return { ...none(inside), found: 'whiteout' };
  const found = kindOf(node.mode);
  const hasMark = aufs && found === 'directory' && view.look(below(inside, '.wh..wh..opq'));
  const opaque = marks.opaque === 'y' || (hasMark !== undefined && hasMark !== false);
  const said = [
    ...(opaque ? ['opaque'] : []),
    ...(marks.redirect === undefined ? [] : [`redirect=${readable(marks.redirect).text}`]),
    ...(marks.metacopy ? ['metacopy'] : []),
    ...(marks.origin === undefined ? [] : ['origin']),
  ];
  const { redirect, metacopy } = marks;
  return { found, path: inside, size: node.size, opaque, redirect, metacopy, marks: said };
}

function kindOf(mode: number): ObjectKind {
  switch (mode & S.IFMT) {
    case S.IFREG:
      return 'file';
    case S.IFDIR:
      return 'directory';
    case S.IFLNK:
      return 'symlink';
    default:
      return 'other';
  }
}
