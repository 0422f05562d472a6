// A kernel's modules: which there are, what each needs, and the files of those that are wanted, in the order of loading.
// Read from a folder of modules or from the payload's own tree; used by build.ts.
// Follows: modprobe.d(5), modules.dep(5), kmod 30 (names: - and _ are the same; softdep; aliases are globs).

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { release as kernelRelease } from 'node:os';
import { basename, join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { TreeError } from '../../tree/errors.js';
import { readContent } from '../../tree/read-content.js';
import { find, isDirectory, sortedNames, type TreeNode } from '../../tree/tree.js';
import { BytesWindow, decode } from '../../tree/window.js';

/** The files of /lib/modules/RELEASE. */
export interface ModuleFolder {
  readonly release: string;
  /** For messages. */
  readonly where: string;
  /** @returns undefined: there is no such file. */
  text(name: string): string | undefined;
  /** A module as the kernel takes it: decompressed. */
  module(path: string): Uint8Array;
}

/** One module to be loaded. */
export interface ModuleFile {
  /** With underscores. */
  readonly name: string;
  /** Below /lib/modules/RELEASE, as it is there. */
  readonly path: string;
}

/** The name of a file of a module; with `-` as `_`. */
export function moduleName(path: string): string {
  return canonical(basename(path).replace(/\.ko(?:\.(?:xz|zst|gz))?$/, ''));
}

const canonical = (name: string): string => name.replaceAll('-', '_');

export class KernelModules {
  readonly folder: ModuleFolder;
  /** Name -> its file and what it needs, by paths. */
  readonly #files = new Map<string, { path: string; needs: readonly string[] }>();
  readonly #builtin: ReadonlySet<string>;
  readonly #softdeps: ReadonlyMap<string, { pre: string[]; post: string[] }>;
  #aliases: Aliases | undefined;

  /** @throws MountError of kind `layer` when there is no modules.dep. */
  constructor(folder: ModuleFolder) {
    this.folder = folder;
    const dep = folder.text('modules.dep');
    if (dep === undefined) {
      const { where, release } = folder;
      throw new MountError(
        'layer',
        `${where}: has no modules.dep: run depmod for ${release} first`,
      );
    }
    for (const line of dep.split('\n')) {
      const [path, needs] = line.split(':');
      if (path === undefined || needs === undefined) continue;
      this.#files.set(moduleName(path), { path, needs: needs.split(' ').filter(Boolean) });
    }
    const builtin = folder.text('modules.builtin') ?? '';
    this.#builtin = new Set(builtin.split('\n').filter(Boolean).map(moduleName));
    this.#softdeps = readSoftdeps(folder.text('modules.softdep') ?? '');
  }

  /** Whether the kernel has it, as a module or built in. */
  has(name: string): boolean {
    return this.#files.has(canonical(name)) || this.isBuiltin(name);
  }

  isBuiltin(name: string): boolean {
    return this.#builtin.has(canonical(name));
  }

  /** Modules for a device (`virtio:d00000002v00001AF4`) or for something that the kernel asks for by name (`crc32c`). */
  forAlias(alias: string): string[] {
    this.#aliases ??= new Aliases(this.folder);
    return this.#aliases.modulesOf(alias);
  }

  /**
   * The files of `names` and of all that they need, in the order of loading. What is built in is left out.
   * @throws MountError of kind `option` for a name that this kernel does not have.
   */
  resolve(names: readonly string[]): ModuleFile[] {
    const order = new Map<string, ModuleFile>();
    const entered = new Set<string>();
    for (const name of names) {
      if (!this.has(name)) throw this.#unknown(name);
      this.#add(canonical(name), order, entered);
    }
    return [...order.values()];
  }

  #add(name: string, order: Map<string, ModuleFile>, entered: Set<string>): void {
    const file = this.#files.get(name);
    if (file === undefined || entered.has(name)) return;
    entered.add(name);
    const soft = this.#softdeps.get(name);
    for (const pre of soft?.pre ?? []) this.#addSoft(pre, order, entered);
    // modules.dep lists what must be loaded first last.
    for (const need of file.needs.toReversed()) this.#add(moduleName(need), order, entered);
    order.set(name, { name, path: file.path });
    for (const post of soft?.post ?? []) this.#addSoft(post, order, entered);
  }

  /** A soft dependency is the name of a module, or an alias such as `crc32c`; it need not exist. */
  #addSoft(name: string, order: Map<string, ModuleFile>, entered: Set<string>): void {
    if (this.isBuiltin(name)) return;
    const found = this.has(name) ? [canonical(name)] : this.forAlias(name);
    // One that is built in is enough: the others do the same faster, and cost the time of their loading.
    if (found.some((one) => this.isBuiltin(one))) return;
    for (const one of found) this.#add(one, order, entered);
  }

  #unknown(name: string): MountError {
    const { where, release } = this.folder;
    return new MountError(
      'option',
      `module ${name}: the kernel ${release} has none (${where}): see modules.dep there`,
    );
  }
}

function readSoftdeps(text: string): Map<string, { pre: string[]; post: string[] }> {
  const all = new Map<string, { pre: string[]; post: string[] }>();
  for (const line of text.split('\n')) {
    const [word, name, ...rest] = line.trim().split(/\s+/);
    if (word !== 'softdep' || name === undefined) continue;
    const one = all.get(canonical(name)) ?? { pre: [], post: [] };
    let list = one.pre;
    for (const item of rest) {
      if (item === 'pre:') list = one.pre;
      else if (item === 'post:') list = one.post;
      else list.push(item);
    }
    all.set(canonical(name), one);
  }
  return all;
}

/** modules.alias, and what the modules that are built in say in modules.builtin.modinfo. */
class Aliases {
  readonly #exact = new Map<string, string[]>();
  readonly #globs: { prefix: string; pattern: string; name: string }[] = [];

  constructor(folder: ModuleFolder) {
    for (const line of (folder.text('modules.alias') ?? '').split('\n')) {
      const [, pattern, name] = /^alias (\S+) (\S+)$/.exec(line) ?? [];
      if (pattern !== undefined && name !== undefined) this.#note(pattern, canonical(name));
    }
    for (const entry of (folder.text('modules.builtin.modinfo') ?? '').split('\0')) {
      const [, name, pattern] = /^([^.=]+)\.alias=(.+)$/s.exec(entry) ?? [];
      if (pattern !== undefined && name !== undefined) this.#note(pattern, canonical(name));
    }
  }

  modulesOf(alias: string): string[] {
    const found = [...(this.#exact.get(canonical(alias)) ?? [])];
    for (const { prefix, pattern, name } of this.#globs) {
      if (alias.startsWith(prefix) && globMatches(pattern, alias)) found.push(name);
    }
    return [...new Set(found)];
  }

  #note(pattern: string, name: string): void {
    const wild = pattern.search(/[*?[]/);
    if (wild >= 0) {
      this.#globs.push({ prefix: pattern.slice(0, wild), pattern, name });
      return;
    }
    const key = canonical(pattern);
    const list = this.#exact.get(key);
    if (list === undefined) this.#exact.set(key, [name]);
    else list.push(name);
  }
}

/** As fnmatch(3) without flags: `*`, `?` and `[...]`. */
function globMatches(pattern: string, text: string): boolean {
  const source = pattern.replace(/\[[^\]]*\]|[\s\S]/g, (part) => {
    if (part === '*') return '.*';
    if (part === '?') return '.';
    if (part.length > 1) return part.replace(/^\[!/, '[^');
    return part.replace(/[\\^$.|+(){}[\]]/g, '\\$&');
  });
  return new RegExp(`^${source}$`, 's').test(text);
}

/**
 * The folder of modules that is meant.
 * @param folder a folder of modules, one that has RELEASE in it, or a root with lib/modules.
 * @throws MountError that names what is there.
 */
export function openModuleFolder(folder: string, release: string | undefined): ModuleFolder {
  const isModules = (path: string): boolean =>
    ['modules.dep', 'modules.order', 'kernel'].some((name) => exists(join(path, name)));
  if (release === undefined && isModules(folder)) return diskFolder(folder, basename(folder));
  const parents = ['', 'lib/modules', 'usr/lib/modules'].map((below) => join(folder, below));
  if (release !== undefined) {
    if (basename(folder) === release && isModules(folder)) return diskFolder(folder, release);
    const place = parents.map((parent) => join(parent, release)).find(isModules);
    if (place !== undefined) return diskFolder(place, release);
  }
  const known = [...new Set(parents.flatMap((parent) => releasesIn(parent, isModules)))];
  const [only] = known;
  if (release === undefined && known.length === 1 && only !== undefined) {
    return openModuleFolder(folder, only);
  }
  const have = known.length === 0 ? 'there are none' : `there are those of ${known.join(', ')}`;
  const wanted = release === undefined ? 'several kernels' : `no modules of kernel ${release}`;
  const what = release === undefined && known.length === 0 ? 'no modules of a kernel' : wanted;
  throw new MountError(
    'layer',
    `${folder}: has ${what}: ${have}: name --kernel-modules and --kver`,
  );
}

function releasesIn(parent: string, isModules: (path: string) => boolean): string[] {
  try {
    return readdirSync(parent)
      .filter((name) => isModules(join(parent, name)))
      .sort();
  } catch {
    return [];
  }
}

const exists = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined;

/** The kernel that runs here. */
export const runningRelease = (): string => kernelRelease();

function diskFolder(where: string, release: string): ModuleFolder {
  return {
    release,
    where,
    text: (name) => {
      try {
        return readFileSync(join(where, name), 'latin1');
      } catch {
        return undefined;
      }
    },
    module: (path) => decompressed(readModule(join(where, path)), join(where, path)),
  };
}

function readModule(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    const what = reasonOf(error);
    throw new MountError('layer', `${path}: is in modules.dep, but: ${what}: run depmod`, {
      cause: error,
    });
  }
}

/** A module without its compression, whatever its name says. */
function decompressed(bytes: Uint8Array, name: string): Uint8Array {
  const input = new BytesWindow(bytes);
  const pieces: Buffer[] = [];
  try {
    const window = decode(input, name);
    if (window === input) return bytes;
    try {
      for (let some = window.peekSome(); some.length > 0; some = window.peekSome()) {
        pieces.push(Buffer.from(some));
        window.pass(some.length);
      }
    } finally {
      window.close();
    }
  } catch (error) {
    if (!(error instanceof TreeError)) throw error;
    throw new MountError('layer', `${error.message}: put the module there again`, { cause: error });
  } finally {
    input.close();
  }
  return Buffer.concat(pieces);
}

/** The modules that a payload brings; undefined: it has none, or those of several kernels. */
export function modulesOfTree(root: TreeNode, name: string): ModuleFolder | undefined {
  for (const below of ['usr/lib/modules', 'lib/modules']) {
    const parent = find(root, below);
    if (parent === undefined || !isDirectory(parent)) continue;
    const releases = sortedNames(parent).filter(
      (one) => find(parent, `${one}/modules.dep`) !== undefined,
    );
    const [release] = releases;
    if (releases.length !== 1 || release === undefined) continue;
    return treeFolder(
      parent.entries.get(release) as TreeNode,
      `${name}#/${below}/${release}`,
      release,
    );
  }
  return undefined;
}

function treeFolder(dir: TreeNode, where: string, release: string): ModuleFolder {
  const bytes = (path: string): Uint8Array | undefined => {
    const node = find(dir, path);
    return node === undefined ? undefined : readContent(node);
  };
  return {
    release,
    where,
    text: (name) => {
      const found = bytes(name);
      return found === undefined ? undefined : Buffer.from(found).toString('latin1');
    },
    module: (path) => {
      const found = bytes(path);
      if (found !== undefined) return decompressed(found, `${where}/${path}`);
      throw new MountError('layer', `${where}/${path}: is in modules.dep and not there`);
    },
  };
}
