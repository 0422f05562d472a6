// Which stacks stand on which others, and so the order in which they are mounted and unmounted.
// Called by `varve up`, `varve down` and `varve stack`; looks at the names and paths of the file only.
// A stack stands on another one when a layer of it is that stack, or a path of it lies below the other's mount point.

import { MountError } from '../stack/errors.js';
import type { Stack, StackFile } from './stacks.js';

/** The stacks that this one stands on, in the order of the file. */
export function standsOn(stack: Stack, file: StackFile): Stack[] {
  const paths = pathsOf(stack);
  const named = new Set(
    stack.layers.flatMap((layer) => (layer.kind === 'stack' ? layer.name : [])),
  );
  return [...file.stacks.values()].filter((other) => {
    if (other === stack) return false;
    const mount = other.mount?.path;
    return named.has(other.name) || (mount !== undefined && paths.some((p) => lies(p, mount)));
  });
}

/** Every path that must be there when the stack is mounted, its mount point too. */
export function pathsOf(stack: Stack): string[] {
  const single = [stack.upper, stack.workdir, stack.mount].flatMap((named) => named?.path ?? []);
  const layers = stack.layers.flatMap((layer) => {
    if (layer.kind !== 'image') return [layer.path];
    return [...layer.stores, ...(layer.image.startsWith('/') ? [layer.image] : [])];
  });
  return [...layers, ...stack.data.map(({ path }) => path), ...single];
}

function lies(path: string, mount: string): boolean {
  return path === mount || path.startsWith(mount.endsWith('/') ? mount : `${mount}/`);
}

/**
 * The given stacks and all that they stand on, each after what it stands on.
 * @throws MountError of kind `option` when that is a circle.
 */
export function upOrder(wanted: readonly Stack[], file: StackFile): Stack[] {
  return walk(wanted, (stack) => standsOn(stack, file));
}

/** The given stacks and all that stand on them, each before what it stands on. */
export function downOrder(wanted: readonly Stack[], file: StackFile): Stack[] {
  const all = [...file.stacks.values()];
  return walk(wanted, (stack) => all.filter((other) => standsOn(other, file).includes(stack)));
}

function walk(wanted: readonly Stack[], next: (stack: Stack) => Stack[]): Stack[] {
  const ordered = new Set<Stack>();
  const open: Stack[] = [];
  const visit = (stack: Stack): void => {
    if (ordered.has(stack)) return;
    const from = open.indexOf(stack);
    if (from >= 0) {
      const way = [...open.slice(from), stack].map(({ name }) => name).join(' on ');
      throw new MountError('option', `${way}: stands on itself: none of them can be mounted first`);
    }
    open.push(stack);
    for (const other of next(stack)) visit(other);
    open.pop();
    ordered.add(stack);
  };
  for (const stack of wanted) visit(stack);
  return [...ordered];
}
