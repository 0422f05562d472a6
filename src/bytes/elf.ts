// What a program needs to run: its interpreter and the libraries that it names.
// Used by boot/build/elf.ts for programs of this machine, and by lazy/load/guess.ts for those of which only parts are here.
// Follows: elf(5), 64 bit, little endian. Nothing in a file is trusted: what is damaged is a RangeError.

import type { ByteSource } from './source.js';
import { bytes, narrow, struct, u16, u32, u64 } from './struct.js';

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

const MAGIC = 0x7f454c46;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const PT = { LOAD: 1, DYNAMIC: 2, INTERP: 3 } as const;
const DT = { NEEDED: 1, STRTAB: 5, RPATH: 15, RUNPATH: 29 } as const;

/** Far more than linkers write: segments, bytes of a dynamic section, bytes of a name. */
const MOST_SEGMENTS = 1024;
const MOST_DYNAMIC = 1 << 18;
const MOST_NAME = 4096;

/** What a program or library names. */
export interface Needs {
  /** e_machine */
  readonly machine: number;
  /** Path of the loader; undefined: it is static, or a library. */
  readonly interpreter: string | undefined;
  /** DT_NEEDED, in their order. */
  readonly libraries: readonly string[];
  /** DT_RUNPATH, else DT_RPATH: folders in which they are looked for first. */
  readonly folders: readonly string[];
}

/**
 * @param source what its read() throws is thrown on. @returns undefined for what is no ELF file of 64 bits, little endian.
 * @throws RangeError when it is damaged.
 */
export function readNeeds(source: ByteSource): Needs | undefined {
  const head = headOf(source);
  if (head === undefined) return undefined;
  const segments = segmentsOf(source, head);
  const interp = segments.find(({ p_type }) => p_type === PT.INTERP);
  const entries = dynamicOf(source, segments);
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
    entries
      .filter((one) => one.tag === tag)
      .map(({ value }) => textAt(source, strings + narrow(value, 'd_val')));
  const [folders = ''] = [...texts(DT.RUNPATH), ...texts(DT.RPATH)];
  return {
    machine: head.e_machine,
    interpreter:
      interp === undefined ? undefined : textAt(source, narrow(interp.p_offset, 'p_offset')),
    libraries: texts(DT.NEEDED),
    folders: folders.split(':').filter(Boolean),
  };
}

/** e_machine; undefined for what is no ELF file of 64 bits, little endian. */
export function machineOf(source: ByteSource): number | undefined {
  return headOf(source)?.e_machine;
}

type Head = ReturnType<typeof Elf64Ehdr.decode>;

function headOf(source: ByteSource): Head | undefined {
  if (source.size < Elf64Ehdr.size) return undefined;
  const start = viewOf(source, 0, Elf64Ehdr.size);
  const isElf =
    start.getUint32(0) === MAGIC &&
    start.getUint8(4) === CLASS_64 &&
    start.getUint8(5) === LITTLE_ENDIAN;
  return isElf ? Elf64Ehdr.decode(start) : undefined;
}

type Segment = ReturnType<typeof Elf64Phdr.decode>;

function segmentsOf(source: ByteSource, head: Head): Segment[] {
  const { e_phnum: count, e_phentsize: size } = head;
  if (count === 0) return [];
  if (count > MOST_SEGMENTS || size < Elf64Phdr.size) {
    throw new RangeError(`${count} segments of ${size} bytes`);
  }
  const view = viewOf(source, narrow(head.e_phoff, 'e_phoff'), count * size);
  return Array.from({ length: count }, (_, i) => Elf64Phdr.decode(view, i * size));
}

function dynamicOf(
  source: ByteSource,
  segments: readonly Segment[],
): { readonly tag: number; readonly value: bigint }[] {
  const segment = segments.find(({ p_type }) => p_type === PT.DYNAMIC);
  if (segment === undefined) return [];
  const length = narrow(segment.p_filesz, 'p_filesz');
  if (length > MOST_DYNAMIC) throw new RangeError(`a dynamic section of ${length} bytes`);
  const view = viewOf(source, narrow(segment.p_offset, 'p_offset'), length);
  const entries: { tag: number; value: bigint }[] = [];
  for (let at = 0; at + Elf64Dyn.size <= length; at += Elf64Dyn.size) {
    const { d_tag, d_val } = Elf64Dyn.decode(view, at);
    if (d_tag === 0n) break;
    entries.push({ tag: Number(d_tag), value: d_val });
  }
  return entries;
}

function viewOf(source: ByteSource, at: number, length: number): DataView {
  if (at + length > source.size) throw new RangeError(`${length} bytes at ${at} of ${source.size}`);
  const out = new Uint8Array(length);
  source.read(at, out);
  return new DataView(out.buffer);
}

/** Bytes of a text that are read at a time: names are short, and what is behind them may not be here. */
const PART = 64;

/** Up to the zero byte. */
function textAt(source: ByteSource, at: number): string {
  let text = '';
  for (let from = at; text.length < MOST_NAME; from += PART) {
    const length = Math.min(PART, source.size - from);
    if (length <= 0) break;
    const part = Buffer.from(viewOf(source, from, length).buffer);
    const end = part.indexOf(0);
    text += part.toString('latin1', 0, end < 0 ? length : end);
    if (end >= 0) return text;
  }
  throw new RangeError(`the text at ${at} has no end`);
}
