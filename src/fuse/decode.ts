// Messages as values, by the opcode records: the slow, complete reading of what dispatch.ts reads by offsets.
// Used by the trace and the tests, and by whoever wants to look at recorded traffic. Pure functions of bytes.
// Follows: opcodes.ts; a request that lies about its sizes is an Error value, never an exception.

import type { Decoded, Fields, Struct, Value } from '../bytes/struct.js';
import {
  FuseDirent,
  FuseDirentplus,
  type FuseEntryOut,
  FuseForgetOne,
  FuseInHeader,
  FuseOutHeader,
} from './abi.js';
import { type Opcode, opcodeOf } from './opcodes.js';

export interface DecodedRequest {
  readonly header: Value<typeof FuseInHeader>;
  /** Absent for an unknown opcode. */
  readonly opcode: Opcode | undefined;
  readonly args: Decoded<Fields> | undefined;
  /** Without their NULs; views of the message. */
  readonly names: readonly Uint8Array[];
  /** What follows, when the opcode carries something. */
  readonly tail: Uint8Array | undefined;
  readonly forgets: readonly Value<typeof FuseForgetOne>[];
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function decodeArgs(record: Opcode, view: DataView, at: number, size: number): Decoded<Fields> {
  const args = record.args as Struct<Fields>;
  if (size === args.size) return args.decode(view, at);
  // A shorter form of an older kernel: what is missing is zero.
  const whole = new Uint8Array(args.size);
  whole.set(new Uint8Array(view.buffer, view.byteOffset + at, size));
  return args.decode(new DataView(whole.buffer));
}

/**
 * Decodes one request.
 * @param setxattrExt whether the session has the long form of SETXATTR.
 * @returns the request, or an Error that says which part is wrong.
 */
export function decodeRequest(message: Uint8Array, setxattrExt = true): DecodedRequest | Error {
  if (message.length < FuseInHeader.size) return new Error(`${message.length} bytes, no header`);
  const view = viewOf(message);
  const header = FuseInHeader.decode(view);
  if (header.len !== message.length) {
    return new Error(`header says ${header.len} bytes, message has ${message.length}`);
  }
  const end = message.length - 8 * header.total_extlen;
  const record = opcodeOf[header.opcode];
  let at: number = FuseInHeader.size;
  if (end < at) return new Error(`${header.total_extlen} words of extensions do not fit`);
  if (record === undefined) {
    return { header, opcode: undefined, args: undefined, names: [], tail: undefined, forgets: [] };
  }
  if (record.node && header.nodeid === 0n) return new Error(`${record.name} of node 0`);

  let args: Decoded<Fields> | undefined;
  if (record.args !== undefined) {
    let size = record.args.size;
    if (record.name === 'SETXATTR' && !setxattrExt) size = record.argsMin as number;
    if (record.name === 'INIT') size = Math.min(size, end - at);
    if (size < (record.argsMin ?? size) || at + size > end) {
      return new Error(`${record.name}: ${end - at} bytes of arguments`);
    }
    args = decodeArgs(record, view, at, size);
    at += size;
  }
  const names: Uint8Array[] = [];
  for (const what of record.names) {
    const nul = message.indexOf(0, at);
    if (nul < 0 || nul >= end) return new Error(`${record.name}: ${what} is not terminated`);
    if (nul === at && record.name !== 'TMPFILE')
      return new Error(`${record.name}: ${what} is empty`);
    names.push(message.subarray(at, nul));
    at = nul + 1;
  }
  const forgets: Value<typeof FuseForgetOne>[] = [];
  let tail: Uint8Array | undefined;
  if (record.tail === 'forgets') {
    const { count } = args as { count: number };
    if (at + count * FuseForgetOne.size > end) {
      return new Error(`${record.name}: ${count} entries in ${end - at} bytes`);
    }
    for (let i = 0; i < count; i++) {
      forgets.push(FuseForgetOne.decode(view, at + i * FuseForgetOne.size));
    }
  } else if (record.tail !== undefined) {
    const { size } = (args ?? {}) as { size?: number };
    if (size !== undefined && at + size > end) {
      return new Error(`${record.name}: ${size} bytes of ${record.tail} in ${end - at}`);
    }
    tail = message.subarray(at, size === undefined ? end : at + size);
  }
  return { header, opcode: record, args, names, tail, forgets };
}

/** An entry of a READDIR or READDIRPLUS reply. */
export interface DecodedEntry {
  readonly name: Uint8Array;
  readonly dirent: Value<typeof FuseDirent>;
  readonly entry: Value<typeof FuseEntryOut> | undefined;
}

export interface DecodedReply {
  readonly header: Value<typeof FuseOutHeader>;
  readonly body: Decoded<Fields> | undefined;
  readonly data: Uint8Array | undefined;
  readonly entries: readonly DecodedEntry[] | undefined;
}

/** Decodes the reply to a request of `opcode`. @returns the reply, or an Error that says what is wrong. */
export function decodeReply(message: Uint8Array, opcode: number): DecodedReply | Error {
  if (message.length < FuseOutHeader.size) return new Error(`${message.length} bytes, no header`);
  const view = viewOf(message);
  const header = FuseOutHeader.decode(view);
  if (header.len !== message.length) {
    return new Error(`header says ${header.len} bytes, message has ${message.length}`);
  }
  const record = opcodeOf[opcode];
  const rest = message.subarray(FuseOutHeader.size);
  const nothing = { header, body: undefined, data: undefined, entries: undefined };
  if (header.error !== 0) {
    return rest.length === 0 ? nothing : new Error(`error ${header.error} with a payload`);
  }
  if (record?.reply !== undefined) {
    if (rest.length !== record.reply.size) {
      return new Error(`${record.name}: ${rest.length} bytes, ${record.reply.size} expected`);
    }
    return { ...nothing, body: record.reply.decode(viewOf(rest)) };
  }
  if (record?.replyData === 'dirents' || record?.replyData === 'direntplus') {
    const entries = decodeEntries(rest, record.replyData === 'direntplus');
    return entries instanceof Error ? entries : { ...nothing, data: rest, entries };
  }
  return rest.length === 0 ? nothing : { ...nothing, data: rest };
}

function decodeEntries(bytes: Uint8Array, plus: boolean): DecodedEntry[] | Error {
  const view = viewOf(bytes);
  const head = plus ? FuseDirentplus.size : FuseDirent.size;
  const entries: DecodedEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + head > bytes.length) return new Error(`an entry is cut off at ${at}`);
    const both = plus ? FuseDirentplus.decode(view, at) : undefined;
    const dirent = both?.dirent ?? FuseDirent.decode(view, at);
    const name = bytes.subarray(at + head, at + head + dirent.namelen);
    if (name.length !== dirent.namelen) return new Error(`a name is cut off at ${at}`);
    entries.push({ name, dirent, entry: both?.entry_out });
    at = (at + head + dirent.namelen + 7) & ~7;
  }
  return entries;
}
