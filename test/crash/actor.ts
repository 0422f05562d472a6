// A program with random habits, whose every state is known: what it does next follows from its seed and what it did.
// Run by actors.ts on a filesystem that will be shut down, and once more, without one, by whoever looks at what is left.
// Each operation changes the tree in one step; some end with fsync(2), after which they and all before them are stored.

import { AT, must, O, readdir, S, stat, sys } from '../support/sys.js';
import {
  bytesOf,
  type Content,
  cut,
  describe,
  isPossible,
  overwritten,
  piece,
  type Step,
  sizeOf,
  type Version,
} from './content.js';

/** A file under all its names. */
interface FileObject {
  readonly id: number;
  mode: number;
  /** Value of the attribute user.tag, '' for none. */
  tag: string;
  readonly versions: Version[];
  /** After which operation which version was surely stored. */
  readonly stored: { readonly op: number; readonly version: number }[];
}

type Entry =
  | { readonly type: 'dir' }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'file'; readonly file: FileObject };

export interface Operation {
  readonly text: string;
  /** Ends with an fsync(2) that stores it. */
  readonly stores: boolean;
  /** @throws Error of a system call that fails. */
  run(root: number): void;
  apply(): void;
}

/** A path that exists at the start, and what it is. */
export interface Initial {
  readonly path: string;
  readonly entry: 'dir' | { readonly target: string } | { readonly link: string } | Content;
}

const SIZES = [0, 10, 4096, 9_999, 70_000, 300_000];
const BIG = 5 * 1024 * 1024 + 1;
const MOST = 70;

/** What every actor finds. */
export function initial(name: string): Initial[] {
  const list: Initial[] = [{ path: name, entry: 'dir' }];
  for (const path of ['d0', 'd1', 'd0/e0', 'd0/e0/x', 'd2', 'd2/e1']) {
    list.push({ path: `${name}/${path}`, entry: 'dir' });
  }
  let seed = 1;
  for (const folder of ['', 'd0/', 'd0/e0/', 'd0/e0/x/', 'd1/', 'd2/e1/']) {
    for (const [i, size] of SIZES.entries()) {
      if ((i + seed) % 2 === 0 && folder !== '') continue;
      list.push({ path: `${name}/${folder}f${i}`, entry: [piece(seed++, size)] });
    }
  }
  list.push({ path: `${name}/d1/big`, entry: [piece(seed++, BIG)] });
  for (const i of [0, 1]) {
    list.push({ path: `${name}/h${i}`, entry: [piece(seed++, 5000)] });
    list.push({ path: `${name}/d0/h${i}`, entry: { link: `${name}/h${i}` } });
  }
  list.push({ path: `${name}/s0`, entry: { target: 'd0/f1' } });
  return list;
}

export class Actor {
  readonly name: string;
  /** Number of the operation that comes next. */
  count = 0;
  readonly #entries = new Map<string, Entry>();
  #random: number;
  #seed: number;
  #ids = 0;

  constructor(name: string, seed: number) {
    this.name = name;
    this.#random = (seed * 2_654_435_761 + 1) >>> 0 || 1;
    this.#seed = 1000 + (seed % 1000) * 1000;
    for (const { path, entry } of initial(name)) {
      if (entry === 'dir') this.#entries.set(path, { type: 'dir' });
      else if ('target' in entry) this.#entries.set(path, { type: 'symlink', ...entry });
      else if ('link' in entry) this.#entries.set(path, this.#entries.get(entry.link) as Entry);
      else this.#entries.set(path, this.#newFile(entry, -1));
    }
  }

  #newFile(content: Content, op: number): Entry {
    const versions: Version[] = [{ content, step: 'first' }];
    const stored = [{ op, version: 0 }];
    return { type: 'file', file: { id: this.#ids++, mode: 0o644, tag: '', versions, stored } };
  }

  #below(limit: number): number {
    // xorshift32
    this.#random ^= this.#random << 13;
    this.#random ^= this.#random >>> 17;
    this.#random ^= this.#random << 5;
    this.#random >>>= 0;
    return this.#random % limit;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list.length === 0 ? undefined : list[this.#below(list.length)];
  }

  #paths(type: Entry['type']): string[] {
    return [...this.#entries].flatMap(([path, entry]) => (entry.type === type ? [path] : []));
  }

  #fileAt(path: string): FileObject {
    return (this.#entries.get(path) as Entry & { type: 'file' }).file;
  }

  #freshName(): string {
    const folder = this.#pick(this.#paths('dir')) as string;
    return `${folder}/n${this.count}`;
  }

  /** The next operation; apply() must be called before the one after it is asked for. */
  next(): Operation {
    for (;;) {
      const kinds = this.#entries.size < MOST ? this.#kinds : this.#lessening;
      const made = (this.#pick(kinds) as () => Operation | undefined)();
      if (made !== undefined) return made;
    }
  }

  readonly #lessening = [
    () => this.#unlink(),
    () => this.#unlink(),
    () => this.#unlink(),
    () => this.#rmdir(),
    () => this.#rename(true),
  ];

  readonly #kinds = [
    () => this.#create(true),
    () => this.#create(true),
    () => this.#create(false),
    () => this.#append(true),
    () => this.#append(true),
    () => this.#append(false),
    () => this.#overwrite(),
    () => this.#rewrite(),
    () => this.#truncate(),
    () => this.#chmod(false),
    () => this.#chmod(false),
    () => this.#chmod(true),
    () => this.#tag(),
    () => this.#rename(false),
    () => this.#rename(true),
    () => this.#rename(true),
    () => this.#exchange(),
    () => this.#moveDir(),
    () => this.#moveDir(),
    () => this.#link(),
    () => this.#unlink(),
    () => this.#unlink(),
    () => this.#symlink(),
    () => this.#mkdir(),
    () => this.#mkdir(),
    () => this.#rmdir(),
  ];

  #operation(
    text: string,
    stores: boolean,
    run: (root: number) => void,
    apply: () => void,
  ): Operation {
    return {
      text,
      stores,
      run,
      apply: () => {
        apply();
        this.count++;
      },
    };
  }

  /** A change of a file's bytes; with `sync` everything that it held is stored afterwards. */
  #change(
    path: string,
    step: Step,
    content: Content,
    sync: boolean,
    write: (fd: number) => void,
    flags: number = O.RDWR,
  ): Operation {
    const file = this.#fileAt(path);
    return this.#operation(
      `${step} ${path} to ${sizeOf(content)}${sync ? ' fsync' : ''}`,
      sync,
      (root) =>
        opened(root, path, flags, (fd) => {
          write(fd);
          if (sync) must(sys.fsync(fd));
        }),
      () => {
        file.versions.push({ content, step });
        if (sync) this.#store(file);
      },
    );
  }

  #store(file: FileObject): void {
    file.stored.push({ op: this.count, version: file.versions.length - 1 });
  }

  /** Whether everything that was written to a file is stored. */
  #isStored(file: FileObject): boolean {
    return file.stored.at(-1)?.version === file.versions.length - 1;
  }

  #create(sync: boolean): Operation {
    const path = this.#freshName();
    const part = piece(
      this.#seed++,
      this.#below(4) === 0 ? this.#below(200_000) : this.#below(9000) + 1,
    );
    const bytes = bytesOf([part]);
    return this.#operation(
      `create ${path} of ${part.length}${sync ? ' fsync' : ''}`,
      sync,
      (root) =>
        opened(root, path, O.RDWR | O.CREAT | O.EXCL, (fd) => {
          writeAll(fd, bytes, 0);
          if (sync) must(sys.fsync(fd));
        }),
      () => {
        const made = this.#newFile([], this.count) as Entry & { type: 'file' };
        made.file.versions.push({ content: [part], step: 'append' });
        if (sync) this.#store(made.file);
        this.#entries.set(path, made);
      },
    );
  }

  #append(sync: boolean): Operation | undefined {
    const path = this.#pick(this.#paths('file'));
    if (path === undefined) return undefined;
    const old = (this.#fileAt(path).versions.at(-1) as Version).content;
    const part = piece(this.#seed++, 1 + this.#below(20_000));
    const bytes = bytesOf([part]);
    return this.#change(path, 'append', [...old, part], sync, (fd) =>
      writeAll(fd, bytes, sizeOf(old)),
    );
  }

  /** A file all of whose bytes are stored. */
  #storedFile(): string | undefined {
    return this.#pick(this.#paths('file').filter((path) => this.#isStored(this.#fileAt(path))));
  }

  #overwrite(): Operation | undefined {
    const path = this.#storedFile();
    if (path === undefined) return undefined;
    const old = (this.#fileAt(path).versions.at(-1) as Version).content;
    const size = sizeOf(old);
    if (size < 2) return undefined;
    const at = this.#below(size - 1);
    const part = piece(this.#seed++, 1 + this.#below(Math.min(size - at - 1, 10_000) || 1));
    const bytes = bytesOf([part]);
    return this.#change(path, 'overwrite', overwritten(old, at, part), true, (fd) =>
      writeAll(fd, bytes, at),
    );
  }

  #rewrite(): Operation | undefined {
    const path = this.#storedFile();
    if (path === undefined) return undefined;
    const part = piece(this.#seed++, 1 + this.#below(30_000));
    const bytes = bytesOf([part]);
    const write = (fd: number): void => writeAll(fd, bytes, 0);
    return this.#change(path, 'rewrite', [part], true, write, O.RDWR | O.TRUNC);
  }

  #truncate(): Operation | undefined {
    const path = this.#storedFile();
    if (path === undefined) return undefined;
    const old = (this.#fileAt(path).versions.at(-1) as Version).content;
    const size = sizeOf(old);
    if (size === 0) return undefined;
    const left = this.#below(size);
    return this.#change(path, 'truncate', cut(old, left), true, (fd) =>
      must(sys.ftruncate(fd, left)),
    );
  }

  /** Without data: what lies in a lower is copied up by it, or its metadata are. */
  #chmod(sync: boolean): Operation | undefined {
    const path = this.#pick(this.#paths('file'));
    if (path === undefined) return undefined;
    const file = this.#fileAt(path);
    const mode = file.mode === 0o640 ? 0o604 : 0o640;
    return this.#operation(
      `chmod ${path} ${mode.toString(8)}${sync ? ' fsync' : ''}`,
      sync,
      (root) => {
        if (!sync) must(sys.chmod(root, path, mode));
        else {
          opened(root, path, O.RDONLY, (fd) => {
            must(sys.fchmod(fd, mode));
            must(sys.fsync(fd));
          });
        }
      },
      () => {
        file.mode = mode;
        if (sync) this.#store(file);
      },
    );
  }

  #tag(): Operation | undefined {
    const path = this.#pick(this.#paths('file'));
    if (path === undefined) return undefined;
    const tag = String(this.count);
    return this.#operation(
      `tag ${path} ${tag}`,
      false,
      (root) => must(sys.setxattr(root, path, 'user.tag', Buffer.from(tag))),
      () => {
        this.#fileAt(path).tag = tag;
      },
    );
  }

  /** Of a file, to a new name or over another one; sometimes with an fsync of the folder. */
  #rename(over: boolean): Operation | undefined {
    const from = this.#pick(this.#paths('file'));
    if (from === undefined) return undefined;
    const to = over ? this.#pick(this.#paths('file')) : this.#freshName();
    if (to === undefined || to === from) return undefined;
    // Two names of one file: rename(2) does nothing.
    if (over && this.#fileAt(to) === this.#fileAt(from)) return undefined;
    return this.#namespaceOp(
      `rename ${from} ${to}`,
      to,
      (root) => sys.rename(root, from, to),
      () => {
        this.#entries.set(to, this.#entries.get(from) as Entry);
        this.#entries.delete(from);
      },
    );
  }

  #namespaceOp(
    text: string,
    path: string,
    call: (root: number) => number,
    apply: () => void,
  ): Operation {
    const sync = this.#below(4) === 0;
    return this.#operation(
      `${text}${sync ? ' fsync of the folder' : ''}`,
      sync,
      (root) => {
        must(call(root));
        if (!sync) return;
        const folder = path.slice(0, path.lastIndexOf('/'));
        opened(root, folder, O.RDONLY | O.DIRECTORY, (fd) => must(sys.fsync(fd)));
      },
      apply,
    );
  }

  #exchange(): Operation | undefined {
    const type = this.#below(3) === 0 ? 'dir' : 'file';
    const a = this.#pick(this.#paths(type));
    const b = this.#pick(this.#paths(type));
    if (a === undefined || b === undefined || a === b || a === this.name || b === this.name) {
      return undefined;
    }
    if (`${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`)) return undefined;
    if (type === 'file' && this.#fileAt(a) === this.#fileAt(b)) return undefined;
    const text = `exchange ${a} ${b}`;
    return this.#namespaceOp(
      text,
      b,
      (root) => sys.rename(root, a, b, 2),
      () => {
        this.#moveAll([
          [a, b],
          [b, a],
        ]);
      },
    );
  }

  /** Moves what lies at and below each path, all at once. */
  #moveAll(moves: readonly (readonly [from: string, to: string])[]): void {
    const moved: [string, Entry][] = [];
    for (const [path, entry] of [...this.#entries]) {
      const move = moves.find(([from]) => path === from || path.startsWith(`${from}/`));
      if (move === undefined) continue;
      this.#entries.delete(path);
      moved.push([move[1] + path.slice(move[0].length), entry]);
    }
    for (const [path, entry] of moved) this.#entries.set(path, entry);
  }

  #moveDir(): Operation | undefined {
    const from = this.#pick(this.#paths('dir'));
    if (from === undefined || from === this.name) return undefined;
    const to = this.#freshName();
    if (to.startsWith(`${from}/`)) return undefined;
    return this.#namespaceOp(
      `move ${from} ${to}`,
      to,
      (root) => sys.rename(root, from, to),
      () => {
        this.#moveAll([[from, to]]);
      },
    );
  }

  #link(): Operation | undefined {
    const from = this.#pick(this.#paths('file'));
    if (from === undefined) return undefined;
    const to = this.#freshName();
    return this.#namespaceOp(
      `link ${from} ${to}`,
      to,
      (root) => sys.link(root, from, to),
      () => {
        this.#entries.set(to, this.#entries.get(from) as Entry);
      },
    );
  }

  #unlink(): Operation | undefined {
    const path = this.#pick([...this.#paths('file'), ...this.#paths('symlink')]);
    if (path === undefined) return undefined;
    return this.#namespaceOp(
      `unlink ${path}`,
      path,
      (root) => sys.unlink(root, path),
      () => {
        this.#entries.delete(path);
      },
    );
  }

  #symlink(): Operation {
    const path = this.#freshName();
    const target = `to/${'x'.repeat(this.#below(100))}`;
    const text = `symlink ${path}`;
    return this.#namespaceOp(
      text,
      path,
      (root) => sys.symlink(target, root, path),
      () => {
        this.#entries.set(path, { type: 'symlink', target });
      },
    );
  }

  #mkdir(): Operation {
    const path = this.#freshName();
    return this.#namespaceOp(
      `mkdir ${path}`,
      path,
      (root) => sys.mkdir(root, path, 0o755),
      () => {
        this.#entries.set(path, { type: 'dir' });
      },
    );
  }

  #rmdir(): Operation | undefined {
    const names = [...this.#entries.keys()];
    const empty = this.#paths('dir').filter(
      (path) => path !== this.name && !names.some((name) => name.startsWith(`${path}/`)),
    );
    const path = this.#pick(empty);
    if (path === undefined) return undefined;
    return this.#namespaceOp(
      `rmdir ${path}`,
      path,
      (root) => sys.rmdir(root, path),
      () => {
        this.#entries.delete(path);
      },
    );
  }

  /** The tree without the contents of files: a line each path. */
  #lines(): Map<string, string> {
    const first = new Map<number, string>();
    const links = new Map<number, number>();
    for (const entry of this.#entries.values()) {
      if (entry.type === 'file') links.set(entry.file.id, (links.get(entry.file.id) ?? 0) + 1);
    }
    const lines = new Map<string, string>();
    for (const path of [...this.#entries.keys()].sort()) {
      const entry = this.#entries.get(path) as Entry;
      if (entry.type === 'dir') lines.set(path, 'dir');
      else if (entry.type === 'symlink') lines.set(path, `symlink ${entry.target}`);
      else {
        const { id, mode, tag } = entry.file;
        if (!first.has(id)) first.set(id, path);
        lines.set(path, fileLine(mode, tag, links.get(id) as number, first.get(id) as string));
      }
    }
    return lines;
  }

  #files(): Map<string, FileObject> {
    return new Map(this.#paths('file').map((path) => [path, this.#fileAt(path)]));
  }

  /**
   * Whether a tree is one that the actor's first operations lead to; this actor must be new.
   * @param done operations that were answered. @param begun those and what was on its way.
   * @returns what is wrong; undefined: nothing.
   */
  whatIsWrong(found: FoundTree, done: number, begun: number): string | undefined {
    let stored = 0;
    const matching: Map<string, FileObject>[] = [];
    const texts: string[] = [];
    let closest: string[] = [];
    const compare = (): void => {
      const wrong = differing(this.#lines(), found.lines);
      if (wrong.length === 0) matching.push(this.#files());
      else if (closest.length === 0 || wrong.length < closest.length) {
        closest = [`after ${this.count} operations:`, ...wrong];
      }
    };
    // Those that are stored are known only at the end: the states from the last of them on count.
    for (;;) {
      compare();
      if (this.count === begun) break;
      const op = this.next();
      texts.push(`${this.count} ${op.text}`);
      if (op.stores && this.count < done) {
        stored = this.count + 1;
        matching.length = 0;
        closest = [];
      }
      op.apply();
    }
    const history = `${this.name}: ${done} of ${begun} operations answered, ${stored} stored\n  ${texts
      .slice(Math.max(0, stored - 3))
      .join('\n  ')}`;
    if (matching.length === 0) return `${history}\nno state fits: ${closest.join('\n  ')}`;
    let wrong: string[] = [];
    for (const files of matching) {
      wrong = [...files].flatMap(([path, file]) => wrongContent(path, file, found, done));
      if (wrong.length === 0) return undefined;
    }
    return `${history}\n${wrong.join('\n')}`;
  }
}

function wrongContent(path: string, file: FileObject, found: FoundTree, done: number): string[] {
  const bytes = found.content(path);
  const stored = file.stored.filter(({ op }) => op < done).at(-1)?.version ?? 0;
  const versions = file.versions.slice(stored);
  return isPossible(bytes, versions) ? [] : [`${path}: ${describe(bytes, versions)}`];
}

const fileLine = (mode: number, tag: string, links: number, first: string): string =>
  `file ${mode.toString(8)} tag=${tag} links=${links} is ${first}`;

function differing(expected: Map<string, string>, found: Map<string, string>): string[] {
  const names = new Set([...expected.keys(), ...found.keys()]);
  return [...names].flatMap((name) => {
    const [a, b] = [expected.get(name), found.get(name)];
    return a === b ? [] : [`${name}: ${b ?? 'missing'} instead of ${a ?? 'nothing'}`];
  });
}

/** What an actor's folder holds. */
export interface FoundTree {
  readonly lines: Map<string, string>;
  content(path: string): Buffer;
}

/** Reads the folder `name` below the descriptor `root`. */
export function readFound(root: number, name: string): FoundTree {
  const lines = new Map<string, string>();
  const files = new Map<string, { mode: number; tag: string; nlink: number; ino: string }>();
  const walk = (path: string): void => {
    const st = stat(root, path, AT.SYMLINK_NOFOLLOW);
    if (typeof st === 'number') {
      lines.set(path, `stat: ${st}`);
      return;
    }
    const type = st.mode & S.IFMT;
    if (type === S.IFDIR) {
      lines.set(path, 'dir');
      const fd = must(sys.open(root, path, O.RDONLY | O.DIRECTORY));
      const entries = readdir(fd);
      sys.close(fd);
      if (typeof entries === 'number') lines.set(path, `readdir: ${entries}`);
      else
        for (const { name: entry } of entries) if (!/^\.\.?$/.test(entry)) walk(`${path}/${entry}`);
    } else if (type === S.IFLNK) {
      lines.set(path, `symlink ${sys.readlink(root, path)}`);
    } else {
      const tag = sys.getxattr(root, path, 'user.tag');
      const text = typeof tag === 'number' ? '' : tag.toString();
      const ino = `${st.dev}:${st.ino}`;
      files.set(path, { mode: st.mode & 0o7777, tag: text, nlink: st.nlink, ino });
    }
  };
  walk(name);
  const first = new Map<string, string>();
  for (const [path, { mode, tag, nlink, ino }] of [...files].sort()) {
    if (!first.has(ino)) first.set(ino, path);
    lines.set(path, fileLine(mode, tag, nlink, first.get(ino) as string));
  }
  return { lines, content: (path) => contentAt(root, path) };
}

function contentAt(root: number, path: string): Buffer {
  return opened(root, path, O.RDONLY, (fd) => {
    const pieces: Buffer[] = [];
    let at = 0;
    for (;;) {
      const bytes = sys.pread(fd, 65_536, at);
      if (typeof bytes === 'number') throw new Error(`reading ${path}: ${bytes}`);
      if (bytes.length === 0) return Buffer.concat(pieces);
      pieces.push(Buffer.from(bytes));
      at += bytes.length;
    }
  });
}

function opened<T>(root: number, path: string, flags: number, use: (fd: number) => T): T {
  const fd = must(sys.open(root, path, flags, 0o644));
  try {
    return use(fd);
  } finally {
    sys.close(fd);
  }
}

function writeAll(fd: number, bytes: Buffer, at: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += must(sys.pwrite(fd, bytes.subarray(done), at + done));
  }
}
