// Which paths of a source stay out of the tree: patterns as people write them, compiled to one question.
// Used by scan, and by cli/ for tar and cpio sources. Paths are latin1 strings without a leading slash.
// Patterns are read as gitignore(5) reads them, without negation; prefixes and regular expressions as mkfs.erofs does.

/** What is to be left out; each list may be empty. */
export interface ExcludeRules {
  /** `*`, `?`, `[a-z]` stay within a name, `**` does not. With a slash inside or in front: from the root; else any name. */
  readonly globs?: readonly string[];
  /** Paths from the root: each leaves out itself and all below it. */
  readonly paths?: readonly string[];
  /** Regular expressions (JavaScript's), searched in the path from the root without its leading slash. */
  readonly regexes?: readonly string[];
}

/** Whether a path is left out, with everything below it. */
export type Excludes = (path: string, isDirectory: boolean) => boolean;

/**
 * Compiles rules; texts are as a person types them (UTF-8).
 * @returns undefined when there are none. @throws RangeError naming the pattern that cannot be read.
 */
export function compileExcludes(rules: ExcludeRules): Excludes | undefined {
  const tests: Excludes[] = [];
  for (const text of rules.paths ?? []) {
    const prefix = bytes(text)
      .replace(/^\.?\/+/, '')
      .replace(/\/+$/, '');
    if (prefix === '') throw new RangeError(`exclude path ${JSON.stringify(text)} names the root`);
    tests.push((path) => path === prefix || path.startsWith(`${prefix}/`));
  }
  for (const text of rules.regexes ?? []) {
    const regex = compile(bytes(text), text);
    tests.push((path) => regex.test(path));
  }
  for (const text of rules.globs ?? []) tests.push(glob(text));
  if (tests.length === 0) return undefined;
  return (path, isDirectory) => tests.some((test) => test(path, isDirectory));
}

/** As the file system knows it: one code unit a byte. */
function bytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function compile(source: string, text: string): RegExp {
  try {
    return new RegExp(source);
  } catch (cause) {
    throw new RangeError(`exclude pattern ${JSON.stringify(text)}: ${(cause as Error).message}`);
  }
}

function glob(text: string): Excludes {
  let pattern = bytes(text);
  const onlyDirectories = pattern.endsWith('/');
  pattern = pattern.replace(/\/+$/, '');
  const anchored = pattern.includes('/');
  pattern = pattern.replace(/^\/+/, '');
  if (pattern === '') throw new RangeError(`exclude pattern ${JSON.stringify(text)} is empty`);
  const regex = compile(`^${anchored ? '' : '(?:[^]*/)?'}${translate(pattern)}$`, text);
  return (path, isDirectory) => (isDirectory || !onlyDirectories) && regex.test(path);
}

/** A glob as the source of a regular expression, without its anchors. */
function translate(pattern: string): string {
  let out = '';
  for (let i = 0; i < pattern.length; ) {
    const char = pattern[i] as string;
    if (pattern.startsWith('**/', i)) {
      out += '(?:[^]*/)?';
      i += 3;
    } else if (pattern.startsWith('**', i)) {
      out += '[^]*';
      i += 2;
    } else if (char === '*') {
      out += '[^/]*';
      i++;
    } else if (char === '?') {
      out += '[^/]';
      i++;
    } else if (char === '[' && pattern.indexOf(']', i + 2) > 0) {
      const end = pattern.indexOf(']', i + 2);
      const set = pattern.slice(i + 1, end).replace(/[\\[\]]/g, '\\$&');
      out += `[${set.startsWith('!') ? `^/${set.slice(1)}` : set}]`;
      i = end + 1;
    } else {
      if (char === '\\' && i + 1 < pattern.length) i++;
      out += (pattern[i] as string).replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
      i++;
    }
  }
  return out;
}
