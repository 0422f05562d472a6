// Requests and replies as one readable line each, from the opcode records.
// Called by server.ts when tracing, and for the log of a request that failed; copies and allocates freely.
// Follows: opcodes.ts, which says what each message consists of.

import { errnoName } from '../linux/errno.js';
import { u8 } from '../linux/memory.js';
import type { Request } from '../vfs/filesystem.js';
import { replyBuffer, requestBuffer } from '../vfs/layout.js';
import { decodeReply, decodeRequest } from './decode.js';
import type { Session } from './session.js';

/** Bytes as text, quoted, with everything unprintable escaped. */
export function quote(bytes: Uint8Array): string {
  let text = '"';
  for (const byte of bytes) {
    if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return `${text}"`;
}

/** Fields whose numbers are read in octal or hexadecimal. */
const OCTAL = new Set(['mode', 'umask']);
const HEX = new Set(['flags', 'flags2', 'open_flags', 'valid']);

/** A decoded struct as `key=value` words; zeros are left out, nested structs are flattened. */
export function words(value: object): string {
  const out: string[] = [];
  for (const [key, item] of Object.entries(value)) {
    if (item instanceof Uint8Array) continue;
    if (typeof item === 'object' && item !== null) {
      const inner = words(item);
      if (inner !== '') out.push(inner);
    } else if (item !== 0 && item !== 0n) {
      const radix = OCTAL.has(key) ? 8 : HEX.has(key) ? 16 : 10;
      const prefix = radix === 8 ? '0' : radix === 16 ? '0x' : '';
      out.push(`${key}=${prefix}${(item as number | bigint).toString(radix)}`);
    }
  }
  return out.join(' ');
}

/** The request of `length` bytes in requestBuffer(0). */
export function traceRequest(length: number, session: Session | undefined): string {
  const at = requestBuffer(0);
  const message = u8.subarray(at, at + length);
  const decoded = decodeRequest(message, session?.setxattrExt ?? true);
  if (decoded instanceof Error) return `-> malformed: ${decoded.message}`;
  const { header, opcode } = decoded;
  const parts = [`-> ${header.unique} ${opcode?.name ?? `OP_${header.opcode}`}`];
  if (header.nodeid !== 0n) parts.push(`node=${header.nodeid}`);
  for (const name of decoded.names) parts.push(quote(name));
  if (decoded.args !== undefined) parts.push(words(decoded.args));
  if (decoded.tail !== undefined) parts.push(`+${decoded.tail.length} bytes`);
  parts.push(`uid=${header.uid} gid=${header.gid} pid=${header.pid}`);
  return parts.filter((part) => part !== '').join(' ');
}

/** The reply of `length` bytes in replyBuffer(0) to the current request. */
export function traceReply(length: number, request: Request): string {
  const at = replyBuffer(0);
  const decoded = decodeReply(u8.subarray(at, at + length), request.opcode);
  if (decoded instanceof Error) return `<- malformed: ${decoded.message}`;
  const { header } = decoded;
  if (header.error !== 0) return `<- ${header.unique} ${errnoName(header.error)}`;
  const parts = [`<- ${header.unique} ok`];
  if (decoded.body !== undefined) parts.push(words(decoded.body));
  if (decoded.entries !== undefined) {
    parts.push(decoded.entries.map((entry) => quote(entry.name)).join(' '));
  } else if (decoded.data !== undefined) {
    parts.push(`${decoded.data.length} bytes`);
  }
  return parts.filter((part) => part !== '').join(' ');
}
