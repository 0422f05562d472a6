// EFI programs (PE32+): their sections read, and sections added behind those of a stub.
// Called by uki.ts to make a unified kernel image and by verify.ts to look into one; firmware and stub are its readers.
// Follows: PE Format (Microsoft, revision 11), UEFI 2.10 section 2.1.1, the Unified Kernel Image specification of UAPI.

import { type ByteSource, eachPiece } from '../../bytes/source.js';
import { bytes, type Decoded, pad, struct, u16, u32, u64 } from '../../bytes/struct.js';
import { MountError } from '../../stack/errors.js';

/** IMAGE_FILE_HEADER behind "PE\0\0"; 20 bytes. */
const CoffHeader = struct('coff_header', 20, {
  Machine: [0, u16],
  NumberOfSections: [2, u16],
  TimeDateStamp: [4, u32],
  PointerToSymbolTable: [8, u32],
  NumberOfSymbols: [12, u32],
  SizeOfOptionalHeader: [16, u16],
  Characteristics: [18, u16],
});

/** IMAGE_OPTIONAL_HEADER64 without its data directories; 112 bytes. */
const OptionalHeader = struct('optional_header', 112, {
  Magic: [0, u16], // 0x20b: PE32+
  LinkerVersion: [2, u16],
  SizeOfCode: [4, u32],
  SizeOfInitializedData: [8, u32], // bytes
  SizeOfUninitializedData: [12, u32],

  AddressOfEntryPoint: [16, u32],
  BaseOfCode: [20, u32],
  ImageBase: [24, u64],

  SectionAlignment: [32, u32], // bytes, in memory
  FileAlignment: [36, u32], // bytes, in the file
  Versions: [40, bytes(12)],
  Win32VersionValue: [52, u32],
  SizeOfImage: [56, u32], // bytes in memory
  SizeOfHeaders: [60, u32], // bytes in the file, up to the first section

  CheckSum: [64, u32], // 0: none; firmware does not look at it
  Subsystem: [68, u16], // 10: EFI application
  DllCharacteristics: [70, u16],
  StackAndHeap: [72, bytes(32)],
  LoaderFlags: [104, u32],
  NumberOfRvaAndSizes: [108, u32],
});

type Optional = Decoded<typeof OptionalHeader.fields>;

/** IMAGE_SECTION_HEADER; 40 bytes. */
const SectionHeader = struct('section_header', 40, {
  Name: [0, bytes(8)], // padded with zeros
  VirtualSize: [8, u32], // bytes in memory
  VirtualAddress: [12, u32],

  SizeOfRawData: [16, u32], // bytes in the file
  PointerToRawData: [20, u32],
  Relocations: [24, pad(12)],
  Characteristics: [36, u32],
});

const SIGNATURE_SIZE = 4;
/** Number of the directory that says where the signatures are; 8 bytes each: offset in the file, bytes. */
const CERTIFICATES = 4;
const PE32_PLUS = 0x20b;
const EFI_APPLICATION = 10;
/** CODE, EXECUTE and READ; INITIALIZED_DATA and READ. */
const CHARACTERISTICS = { code: 0x6000_0020, data: 0x4000_0040 } as const;
/** What firmware may set rights of memory by. */
const PAGE = 4096;
const MOST_ALIGNMENT = 64 * 1024;
/** A stub or kernel begins with its headers in less than this. */
const MOST_HEADERS = 64 * 1024;
/** Offsets and sizes of the format are 32 bits. */
const MOST_FILE = 0xffff_ffff;

export interface PeSection {
  readonly name: string;
  readonly virtualAddress: number;
  /** Bytes that it has in memory: for a section of a unified kernel image, what was put in. */
  readonly virtualSize: number;
  /** Where it lies in the file, bytes. */
  readonly offset: number;
  readonly rawSize: number;
}

export interface PeImage {
  readonly machine: number;
  readonly sections: readonly PeSection[];
  /** Bytes of signatures. */
  readonly certificates: number;
  /** The headers as they lie in the file. */
  readonly headers: Buffer;
  readonly coffAt: number;
  readonly sectionsAt: number;
  readonly sizeOfImage: number;
  readonly sectionAlignment: number;
  readonly fileAlignment: number;
}

/** @param where for messages. @throws MountError of kind `layer` for what is no EFI program of 64 bits. */
export function readPe(source: ByteSource, where: string): PeImage {
  const start = Buffer.alloc(Math.min(MOST_HEADERS, source.size));
  source.read(0, start);
  const view = new DataView(start.buffer, start.byteOffset, start.length);
  const no = (why: string): MountError => new MountError('layer', `${where}: ${why}`);
  if (start.length < 64 || start.toString('latin1', 0, 2) !== 'MZ')
    throw no('is no EFI program: it does not begin with MZ');
  const peAt = start.readUInt32LE(0x3c);
  const coffAt = peAt + SIGNATURE_SIZE;
  const optionalAt = coffAt + CoffHeader.size;
  const fits = (end: number): void => {
    if (end > start.length) throw no('is no EFI program: its headers end too early');
  };
  fits(optionalAt + OptionalHeader.size);
  if (start.toString('latin1', peAt, coffAt) !== 'PE\0\0')
    throw no('is no EFI program: it has no PE header (a kernel needs CONFIG_EFI_STUB)');
  const coff = CoffHeader.decode(view, coffAt);
  const optional = OptionalHeader.decode(view, optionalAt);
  if (optional.Magic !== PE32_PLUS || optional.Subsystem !== EFI_APPLICATION)
    throw no('is no EFI program of 64 bits');
  const sectionsAt = optionalAt + coff.SizeOfOptionalHeader;
  fits(sectionsAt + coff.NumberOfSections * SectionHeader.size);
  fits(optional.SizeOfHeaders);
  for (const alignment of [optional.FileAlignment, optional.SectionAlignment])
    if (alignment > MOST_ALIGNMENT || !/^10*$/.test(alignment.toString(2)))
      throw no(`is no EFI program: it cannot be aligned to ${alignment} bytes`);
  const sections: PeSection[] = [];
  for (let i = 0; i < coff.NumberOfSections; i++) {
    const header = SectionHeader.decode(view, sectionsAt + i * SectionHeader.size);
    const name = Buffer.from(header.Name).toString('latin1').replace(/\0.*$/s, '');
    const { PointerToRawData: offset, SizeOfRawData: rawSize } = header;
    if (rawSize > 0 && offset + rawSize > source.size)
      throw no(
        `is cut off: section ${name} ends at byte ${offset + rawSize}, the file at ${source.size}`,
      );
    const { VirtualAddress: virtualAddress, VirtualSize: virtualSize } = header;
    sections.push({ name, virtualAddress, virtualSize, offset, rawSize });
  }
  const directoryAt = optionalAt + OptionalHeader.size + CERTIFICATES * 8;
  const signed = optional.NumberOfRvaAndSizes > CERTIFICATES;
  if (signed) fits(directoryAt + 8);
  return {
    machine: coff.Machine,
    sections,
    certificates: signed ? view.getUint32(directoryAt + 4, true) : 0,
    headers: start.subarray(0, optional.SizeOfHeaders),
    coffAt,
    sectionsAt,
    sizeOfImage: optional.SizeOfImage,
    sectionAlignment: optional.SectionAlignment,
    fileAlignment: optional.FileAlignment,
  };
}

/** What becomes a section. */
export interface NewSection {
  /** At most 8 bytes. */
  readonly name: string;
  readonly source: ByteSource;
  readonly code?: boolean;
}

/**
 * The stub with further sections behind its own: each begins on a page of memory and at an aligned byte of the file.
 * Signatures of the stub and what else lies behind its sections are left out. The same input gives the same bytes.
 * @param write takes the file from its beginning; what it is given is its to read until it returns.
 * @throws MountError when the stub has no room for the headers, or the whole does not fit into the format.
 */
export function writePe(
  stub: ByteSource,
  sections: readonly NewSection[],
  where: string,
  write: (piece: Uint8Array) => void,
): void {
  const image = readPe(stub, where);
  const { sectionsAt, coffAt, fileAlignment } = image;
  const no = (why: string): MountError => new MountError('layer', `${where}: ${why}`);
  const headers = Buffer.from(image.headers);
  const count = image.sections.length + sections.length;
  const first = Math.min(
    ...image.sections.map(({ offset, rawSize }) => (rawSize ? offset : MOST_FILE)),
  );
  if (sectionsAt + count * SectionHeader.size > Math.min(headers.length, first))
    throw no(`has no room for ${sections.length} more sections: take the stub of systemd-boot-efi`);

  const pages = Math.max(PAGE, image.sectionAlignment);
  const end = (of: (section: PeSection) => number): number => Math.max(...image.sections.map(of));
  const stubEnd = end(({ offset, rawSize }) => offset + rawSize);
  let address = alignUp(
    Math.max(
      image.sizeOfImage,
      end((s) => s.virtualAddress + s.virtualSize),
    ),
    pages,
  );
  let offset = alignUp(stubEnd, fileAlignment);
  const view = new DataView(headers.buffer, headers.byteOffset, headers.length);
  const optionalAt = coffAt + CoffHeader.size;
  const optional = { ...OptionalHeader.decode(view, optionalAt) } as {
    -readonly [K in keyof Optional]: Optional[K];
  };
  const places: number[] = [];
  for (const [i, { name, source, code }] of sections.entries()) {
    const SizeOfRawData = alignUp(source.size, fileAlignment);
    if (offset + SizeOfRawData > MOST_FILE || address + source.size > MOST_FILE)
      throw no(`cannot take ${name}: an EFI program has at most 4 GiB`);
    const header = {
      Name: Buffer.from(name),
      VirtualSize: source.size,
      VirtualAddress: address,
      SizeOfRawData,
      PointerToRawData: offset,
      Characteristics: CHARACTERISTICS[code ? 'code' : 'data'],
    };
    SectionHeader.encode(
      view,
      header,
      sectionsAt + (image.sections.length + i) * SectionHeader.size,
    );
    if (code) optional.SizeOfCode += SizeOfRawData;
    else optional.SizeOfInitializedData += SizeOfRawData;
    places.push(offset);
    offset += SizeOfRawData;
    address = alignUp(address + source.size, pages);
  }
  const coff = CoffHeader.decode(view, coffAt);
  const changed = { NumberOfSections: count, PointerToSymbolTable: 0, NumberOfSymbols: 0 };
  CoffHeader.encode(view, { ...coff, ...changed }, coffAt);
  OptionalHeader.encode(view, { ...optional, SizeOfImage: address, CheckSum: 0 }, optionalAt);
  if (optional.NumberOfRvaAndSizes > CERTIFICATES) {
    const directoryAt = optionalAt + OptionalHeader.size + CERTIFICATES * 8;
    headers.fill(0, directoryAt, directoryAt + 8);
  }

  write(headers);
  eachPiece(stub, headers.length, stubEnd, write);
  let at = stubEnd;
  for (const [i, { source }] of sections.entries()) {
    const place = places[i] as number;
    if (place > at) write(Buffer.alloc(place - at));
    eachPiece(source, 0, source.size, write);
    at = place + source.size;
  }
  if (offset > at) write(Buffer.alloc(offset - at));
}

/** The bytes of a section as they were put in. */
export function sectionSource(source: ByteSource, section: PeSection): ByteSource {
  const size = Math.min(section.virtualSize, section.rawSize);
  return {
    size,
    read(at, out) {
      if (at < 0 || at + out.length > size)
        throw new RangeError(`${out.length} bytes at ${at}: the section has ${size}`);
      source.read(section.offset + at, out);
    },
  };
}

const alignUp = (n: number, to: number): number => Math.ceil(n / to) * to;
