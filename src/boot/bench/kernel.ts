// The kernel that a bench boots: a bzImage is unpacked to its vmlinux, which QEMU can enter directly (PVH).
// Called by run.ts once. It saves the time in which an emulated processor would unpack the kernel, the same for every variant.
// Follows: Documentation/arch/x86/boot.rst of Linux 6.18 (protocol 2.08), xen/elfnote.h, elf(5).

import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import { decode, FileWindow } from '../../tree/window.js';

/** Offsets of struct setup_header in a bzImage. */
const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x250;

const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/**
 * @param folder takes what is unpacked. @returns the file for QEMU's -kernel: a vmlinux that it can enter, else `kernel` itself.
 * @throws MountError of kind `layer` when it is no kernel.
 */
export function bootableKernel(kernel: string, folder: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(kernel);
  } catch (error) {
    throw new MountError('layer', `kernel ${kernel}: ${reasonOf(error)}: name one by --kernel`, {
      cause: error,
    });
  }
  if (isElf(bytes)) {
    if (hasPvhEntry(bytes)) return kernel;
    throw new MountError('layer', `kernel ${kernel}: has no PVH entry: name its bzImage (vmlinuz)`);
  }
  const payload = payloadOf(bytes);
  if (payload === undefined) {
    throw new MountError(
      'layer',
      `kernel ${kernel}: is no bzImage and no vmlinux: name one by --kernel`,
    );
  }
  const vmlinux = join(folder, 'vmlinux');
  if (unpack(payload, vmlinux) && hasPvhEntry(readFileSync(vmlinux))) return vmlinux;
  rmSync(vmlinux, { force: true });
  return kernel;
}

const isElf = (bytes: Uint8Array): boolean =>
  bytes.length > 64 && Buffer.from(bytes.subarray(0, 5)).toString('latin1') === '\x7fELF\x02';

/** The compressed kernel in a bzImage; empty: the image is older than protocol 2.08. */
function payloadOf(bytes: Buffer): Buffer | undefined {
  if (
    bytes.length < HEADER_END ||
    bytes.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) !== 'HdrS'
  )
    return undefined;
  if (bytes.readUInt16LE(VERSION) < 0x0208) return bytes.subarray(0, 0);
  const sectors = bytes.readUInt8(SETUP_SECTS) || 4;
  const start = (sectors + 1) * 512 + bytes.readUInt32LE(PAYLOAD_OFFSET);
  return bytes.subarray(start, start + bytes.readUInt32LE(PAYLOAD_LENGTH));
}

/** @returns false: it is in a form that nothing here unpacks, or damaged. Then the kernel unpacks itself, or says why not. */
function unpack(payload: Uint8Array, path: string): boolean {
  const packed = `${path}.packed`;
  writeFileSync(packed, payload);
  const fd = openSync(packed, 'r');
  const out = openSync(path, 'w');
  const input = new FileWindow(fd, packed);
  let window: ReturnType<typeof decode> | undefined;
  let written = 0;
  try {
    window = decode(input, packed);
    if (window === input) return false;
    for (let some = window.peekSome(); some.length > 0; some = window.peekSome()) {
      written += writeSync(out, some);
      window.pass(some.length);
    }
    return true;
  } catch {
    // Behind the payload stands its length, which is no part of the stream: what came before it counts.
    return written > 0;
  } finally {
    if (window !== undefined && window !== input) window.close();
    input.close();
    closeSync(fd);
    closeSync(out);
    rmSync(packed);
  }
}

/** Whether an ELF file of 64 bits has the note that says where a kernel is entered in 32 bits. */
function hasPvhEntry(elf: Buffer): boolean {
  if (!isElf(elf)) return false;
  const at = Number(elf.readBigUInt64LE(0x20));
  const size = elf.readUInt16LE(0x36);
  const count = elf.readUInt16LE(0x38);
  for (let i = 0; i < count; i++) {
    const header = at + i * size;
    if (header + 56 > elf.length) return false;
    if (elf.readUInt32LE(header) !== PT_NOTE) continue;
    const from = Number(elf.readBigUInt64LE(header + 8));
    const length = Number(elf.readBigUInt64LE(header + 32));
    if (hasNote(elf.subarray(from, from + length))) return true;
  }
  return false;
}

function hasNote(notes: Buffer): boolean {
  for (let at = 0; at + 12 <= notes.length; ) {
    const name = align4(notes.readUInt32LE(at));
    const content = align4(notes.readUInt32LE(at + 4));
    const isXen = notes.toString('latin1', at + 12, at + 16) === 'Xen\0';
    if (isXen && notes.readUInt32LE(at + 8) === XEN_ELFNOTE_PHYS32_ENTRY) return true;
    at += 12 + name + content;
  }
  return false;
}

const align4 = (n: number): number => Math.ceil(n / 4) * 4;
