// Requests as a test writes them: annotated rows of hex, and a builder of any request from values.
// Used by the tests of decoding and dispatch. The builder works from the opcode records.

import type { Fields, Struct } from '../../src/bytes/struct.js';
import { FuseInHeader } from '../../src/fuse/abi.js';
import { OP, type OpName, opcodeOf } from '../../src/fuse/opcodes.js';

/** Bytes of rows like `01000000  // opcode LOOKUP`; `"name"` stands for its bytes. */
export function fromRows(rows: string): Uint8Array {
  const parts: Buffer[] = [];
  for (const row of rows.split('\n')) {
    const text = row.replace(/\/\/.*$/, '').trim();
    if (text === '') continue;
    for (const word of text.match(/"[^"]*"|\S+/g) ?? []) {
      parts.push(
        word.startsWith('"')
          ? Buffer.from(word.slice(1, -1), 'latin1')
          : Buffer.from(word.replaceAll('_', ''), 'hex'),
      );
    }
  }
  return Buffer.concat(parts);
}

export interface Message {
  readonly unique?: bigint;
  readonly nodeid?: bigint;
  readonly uid?: number;
  readonly gid?: number;
  readonly pid?: number;
  readonly args?: Record<string, number | bigint>;
  /** Bytes of the argument struct that are sent, for its shorter forms. */
  readonly argsSize?: number;
  readonly names?: readonly string[];
  readonly tail?: Uint8Array;
  /** Overrides the header's length. */
  readonly len?: number;
}

/** A request as the kernel would send it. */
export function request(name: OpName, message: Message = {}): Uint8Array {
  const record = opcodeOf[OP[name]];
  if (record === undefined) throw new Error(`no record of ${name}`);
  const parts: Uint8Array[] = [];
  if (record.args !== undefined) {
    const whole = (record.args as Struct<Fields>).bytes((message.args ?? {}) as never);
    parts.push(whole.subarray(0, message.argsSize ?? whole.length));
  }
  for (const text of message.names ?? []) parts.push(Buffer.from(`${text}\0`, 'latin1'));
  if (message.tail !== undefined) parts.push(message.tail);
  const body = Buffer.concat(parts);
  const header = FuseInHeader.bytes({
    len: message.len ?? FuseInHeader.size + body.length,
    opcode: OP[name],
    unique: message.unique ?? 0x77n,
    nodeid: message.nodeid ?? (record.node ? 1n : 0n),
    uid: message.uid ?? 1000,
    gid: message.gid ?? 1001,
    pid: message.pid ?? 4242,
    total_extlen: 0,
  });
  return Buffer.concat([header, body]);
}
