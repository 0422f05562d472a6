// The shared libraries that a program needs, and its loader: what must be in a mini-initramfs for it to run.
// Used by mini.ts for dmsetup and openssl; nothing is run for it, so it works for a program of another machine, too.
// Follows: elf(5), ld.so(8): DT_RUNPATH, then the folders that are built into the loader (there is no ld.so.cache in a mini-initramfs).

import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bytes, narrow, struct, u16, u32, u64 } from '../../bytes/struct.js';
import { MountError } from '../../stack/errors.js';

/** Elf64_Ehdr; 64 bytes. */
const Elf64Ehdr = struct('Elf64_Ehdr', 64, {
  e_ident: [0, bytes(16)],

  e_type: [16, u16],
  e_machine: [18, u16],
  e_version: [20, u32],
  e_entry: [24, u64],

  e_phoff: [32, u64],
  e_shoff: [40, u64],

  e_flags: [48, u32],
  e_ehsize: [52, u16],
  e_phentsize: [54, u16],
  e_phnum: [56, u16],
  e_shentsize: [58, u16],
  e_shnum: [60, u16],
  e_shstrndx: [62, u16],
});

/** Elf64_Phdr; 56 bytes. */
const Elf64Phdr = struct('Elf64_Phdr', 56, {
  p_type: [0, u32],
  p_flags: [4, u32],
  p_offset: [8, u64],

  p_vaddr: [16, u64],
  p_paddr: [24, u64],

  p_filesz: [32, u64],
  p_memsz: [40, u64],

  p_align: [48, u64],
});

/** Elf64_Dyn; 16 bytes. */
const Elf64Dyn = struct('Elf64_Dyn', 16, { d_tag: [0, u64], d_val: [8, u64] });

const PT = { LOAD: 1, DYNAMIC: 2, INTERP: 3 } as const;
const DT = { NEEDED: 1, STRTAB: 5, RPATH: 15, RUNPATH: 29 } as const;

interface Needs {
  readonly machine: number;
  /** Path of the loader; undefined: it is static, or a library. */
  readonly interpreter: string | undefined;
  readonly libraries: readonly string[];
  readonly folders: readonly string[];
}

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
    const needs = readNeeds(path);
    interpreter ??= needs.interpreter;
    const own = needs.folders.map((one) =>
      one.replaceAll(/\$ORIGIN|\$\{ORIGIN\}/g, dirname(realpathSync(path as string))),
    );
    for (const name of needs.libraries) {
      if (found.has(name) || name === interpreter?.split('/').at(-1)) continue;
      const place = [...own, ...system]
        .map((folder) => join(folder, name))
        .find((one) => machineOf(one) === needs.machine);
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

function readNeeds(path: string): Needs {
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  if (machineOf(path) === undefined) {
    throw new MountError('layer', `${path}: is no program of a 64-bit little-endian machine`);
  }
  try {
    return needsOf(file, view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new MountError('layer', `${path}: is a damaged program: ${error.message}`, {
      cause: error,
    });
  }
}

function needsOf(file: Buffer, view: DataView): Needs {
  const head = Elf64Ehdr.decode(view);
  const segments = Array.from({ length: head.e_phnum }, (_, i) =>
    Elf64Phdr.decode(view, narrow(head.e_phoff, 'e_phoff') + i * head.e_phentsize),
  );
  const textAt = (at: number): string => file.toString('latin1', at, file.indexOf(0, at));
  const interp = segments.find((one) => one.p_type === PT.INTERP);
  const dynamic = segments.find((one) => one.p_type === PT.DYNAMIC);
  const entries: { tag: number; value: bigint }[] = [];
  if (dynamic !== undefined) {
    const end = narrow(dynamic.p_offset + dynamic.p_filesz, 'p_filesz');
    for (let at = narrow(dynamic.p_offset, 'p_offset'); at < end; at += Elf64Dyn.size) {
      const { d_tag, d_val } = Elf64Dyn.decode(view, at);
      entries.push({ tag: Number(d_tag), value: d_val });
    }
  }
  /** A dynamic section names addresses; the segment that is loaded there has the bytes. */
  const offsetOf = (address: bigint): number => {
    const segment = segments.find(
      ({ p_type, p_vaddr, p_filesz }) =>
        p_type === PT.LOAD && address >= p_vaddr && address < p_vaddr + p_filesz,
    );
    if (segment === undefined) throw new RangeError(`address ${address} is in no segment`);
    return narrow(segment.p_offset + (address - segment.p_vaddr), 'address');
  };
  const table = entries.find(({ tag }) => tag === DT.STRTAB);
  const strings = table === undefined ? 0 : offsetOf(table.value);
  const texts = (tag: number): string[] =>
    entries.filter((one) => one.tag === tag).map(({ value }) => textAt(strings + Number(value)));
  const [folders = ''] = [...texts(DT.RUNPATH), ...texts(DT.RPATH)];
  return {
    machine: head.e_machine,
    interpreter: interp === undefined ? undefined : textAt(narrow(interp.p_offset, 'p_offset')),
    libraries: texts(DT.NEEDED),
    folders: folders.split(':').filter(Boolean),
  };
}

/** e_machine of a 64-bit little-endian ELF file; undefined: it is none. */
function machineOf(path: string): number | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  const file = readFileSync(path);
  const isElf = file.length >= Elf64Ehdr.size && file.readUInt32BE(0) === 0x7f454c46;
  return isElf && file[4] === 2 && file[5] === 1 ? file.readUInt16LE(18) : undefined;
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
