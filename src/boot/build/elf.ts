// The shared libraries that a program needs, and its loader: what must be in a mini-initramfs for it to run.
// Used by mini.ts for dmsetup and openssl; nothing is run for it, so it works for a program of another machine, too.
// What a file names: bytes/elf.ts. Follows: ld.so(8): DT_RUNPATH, then the folders that are built into the loader (there is no ld.so.cache in a mini-initramfs).

import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { machineOf, type Needs, readNeeds } from '../../bytes/elf.js';
import { MemorySource } from '../../bytes/source.js';
import { MountError } from '../../stack/errors.js';

/**
 * The files that `program` needs besides itself, as paths at which its loader looks for them, in byte order.
 * @throws MountError of kind `layer` for what is no program of 64 bits, or a library that is missing.
 */
export function sharedLibraries(program: string): string[] {
  const found = new Map<string, string>();
  const system = systemFolders();
  const pending = [program];
  let interpreter: string | undefined;
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const needs = needsOf(path);
    interpreter ??= needs.interpreter;
    const own = needs.folders.map((one) =>
      one.replaceAll(/\$ORIGIN|\$\{ORIGIN\}/g, dirname(realpathSync(path as string))),
    );
    for (const name of needs.libraries) {
      if (found.has(name) || name === interpreter?.split('/').at(-1)) continue;
      const place = [...own, ...system]
        .map((folder) => join(folder, name))
        .find((one) => machineOfFile(one) === needs.machine);
      if (place === undefined) {
        throw new MountError(
          'layer',
          `${path}: needs the library ${name}, which is not there: install it`,
        );
      }
      found.set(name, place);
      pending.push(place);
    }
  }
  const files = [...found.values()];
  if (interpreter !== undefined) files.push(interpreter);
  return files.sort();
}

function needsOf(path: string): Needs {
  try {
    const needs = readNeeds(new MemorySource(readFileSync(path)));
    if (needs !== undefined) return needs;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new MountError('layer', `${path}: is a damaged program: ${error.message}`, {
      cause: error,
    });
  }
  throw new MountError('layer', `${path}: is no program of a 64-bit little-endian machine`);
}

/** e_machine of a 64-bit little-endian ELF file; undefined: it is none. */
function machineOfFile(path: string): number | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  return machineOf(new MemorySource(readFileSync(path)));
}

/** Folders in which a loader looks: a mini-initramfs has no ld.so.cache, so those that are built in come first. */
function systemFolders(): string[] {
  const multiarch = readFolder('/usr/lib').filter((name) => /^\w+-linux-gnu/.test(name));
  const builtIn = [
    ...multiarch.flatMap((name) => [`/lib/${name}`, `/usr/lib/${name}`]),
    '/lib64',
    '/usr/lib64',
    '/lib',
    '/usr/lib',
  ];
  return builtIn;
}

function readFolder(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}
