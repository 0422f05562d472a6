// Structs as data: one table a struct, from which its type, its checks and its accessors are made.
// Used by every room that knows a wire or disk format; hot paths take the offsets and read the views themselves.
// Little endian throughout, as the kernel's ABI on every architecture supported and the formats used here.

/** How one field is stored. `read` and `write` are source text: they become part of a compiled accessor. */
export interface FieldType<T> {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Expression that reads the field from DataView `v` at byte `at`. */
  readonly read: (at: string) => string;
  /** Statement that writes `value` to DataView `v` at byte `at`. */
  readonly write: (at: string, value: string) => string;
  /** Values that the source texts refer to by name. */
  readonly scope: Readonly<Record<string, unknown>>;
  /** Never set; carries the TypeScript type. */
  readonly type?: T;
}

function scalar<T>(name: string, size: number, method: string): FieldType<T> {
  const endian = size > 1 ? ', true' : '';
  return {
    name,
    size,
    read: (at) => `v.get${method}(${at}${endian})`,
    write: (at, value) => `v.set${method}(${at}, ${value}${endian});`,
    scope: {},
  };
}

export const u8 = scalar<number>('u8', 1, 'Uint8');
export const u16 = scalar<number>('u16', 2, 'Uint16');
export const u32 = scalar<number>('u32', 4, 'Uint32');
export const i32 = scalar<number>('i32', 4, 'Int32');
export const u64 = scalar<bigint>('u64', 8, 'BigUint64');
export const i64 = scalar<bigint>('i64', 8, 'BigInt64');

const copyOut = (v: DataView, at: number, size: number): Uint8Array =>
  new Uint8Array(v.buffer, v.byteOffset + at, size).slice();
const copyIn = (v: DataView, at: number, size: number, value: Uint8Array): void => {
  if (value.length > size) throw new RangeError(`${value.length} bytes for a field of ${size}`);
  const field = new Uint8Array(v.buffer, v.byteOffset + at, size);
  field.fill(0);
  field.set(value);
};

/** `size` raw bytes; read as a copy, written zero-padded. */
export function bytes(size: number): FieldType<Uint8Array> {
  return {
    name: `u8[${size}]`,
    size,
    read: (at) => `copyOut(v, ${at}, ${size})`,
    write: (at, value) => `copyIn(v, ${at}, ${size}, ${value});`,
    scope: { copyOut, copyIn },
  };
}

/** Bytes that carry nothing: absent from the decoded value, written as zeros. */
export function pad(size: number): FieldType<never> {
  return {
    name: `pad[${size}]`,
    size,
    read: () => '',
    write: (at) => `for (let i = 0; i < ${size}; i++) v.setUint8(${at} + i, 0);`,
    scope: {},
  };
}

export type Fields = Readonly<Record<string, readonly [offset: number, type: FieldType<unknown>]>>;

/** The value of a struct: its fields without the padding. */
export type Decoded<F extends Fields> = {
  [K in keyof F as F[K][1] extends FieldType<infer T>
    ? [T] extends [never]
      ? never
      : K
    : never]: F[K][1] extends FieldType<infer T> ? T : never;
};

/** A declared struct; itself a field type, so that structs nest. */
export interface Struct<F extends Fields> extends FieldType<Decoded<F>> {
  readonly fields: F;
  /** Byte offset of each field. */
  readonly at: { readonly [K in keyof F]: F[K][0] };
  /** Copies the struct out of `view` at byte `offset`. @throws RangeError when it does not fit. */
  decode(view: DataView, offset?: number): Decoded<F>;
  /** Writes the struct into `view`; fields that are missing become zero. @throws RangeError when it does not fit. */
  encode(view: DataView, value: Partial<Decoded<F>>, offset?: number): void;
  /** The struct as `size` fresh bytes. */
  bytes(value: Partial<Decoded<F>>): Uint8Array;
}

/**
 * Declares a struct.
 * @param size total in bytes.
 * @param fields name -> [byte offset, type], in order of their offsets.
 * @throws Error when fields overlap, leave a hole or do not add up to `size`: a wrong table never loads.
 */
export function struct<const F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  let end = 0;
  const at: Record<string, number> = {};
  for (const [key, [offset, type]] of Object.entries(fields)) {
    if (offset < end) throw new Error(`${name}.${key} at ${offset} overlaps what ends at ${end}`);
    if (offset > end)
      throw new Error(`${name}: unnamed hole from ${end} to ${offset}, before ${key}`);
    at[key] = offset;
    end = offset + type.size;
  }
  if (end !== size) throw new Error(`${name}: fields end at ${end}, declared size ${size}`);

  const scope: Record<string, unknown> = {};
  const reads: string[] = [];
  const writes: string[] = [];
  let nested = 0;
  for (const [key, [offset, type]] of Object.entries(fields)) {
    const local: Record<string, string> = {};
    for (const [global, value] of Object.entries(type.scope)) {
      const unique = `${global}${nested++}`;
      scope[unique] = value;
      local[global] = unique;
    }
    const rename = (text: string): string =>
      text.replace(/\b[A-Za-z_]\w*\b/g, (word) =>
        Object.hasOwn(local, word) ? (local[word] as string) : word,
      );
    const read = type.read(`o + ${offset}`);
    if (read !== '') reads.push(`${JSON.stringify(key)}: ${rename(read)}`);
    writes.push(rename(type.write(`o + ${offset}`, `x[${JSON.stringify(key)}]`)));
  }
  const names = Object.keys(scope);
  const values = Object.values(scope);
  const compile = (body: string): unknown =>
    new Function(...names, `'use strict'; ${body}`)(...values);
  const read = compile(`return (v, o) => ({ ${reads.join(', ')} });`) as (
    v: DataView,
    o: number,
  ) => Decoded<F>;
  const write = compile(`return (v, x, o) => { ${writes.join(' ')} };`) as (
    v: DataView,
    x: unknown,
    o: number,
  ) => void;
  const zero = read(new DataView(new ArrayBuffer(size)), 0);

  const fits = (view: DataView, offset: number): void => {
    if (offset < 0 || offset + size > view.byteLength) {
      throw new RangeError(`${name}: ${size} bytes at ${offset} of ${view.byteLength}`);
    }
  };
  const result: Struct<F> = {
    name,
    size,
    fields,
    at: at as Struct<F>['at'],
    read: (position) => `readStruct(v, ${position})`,
    write: (position, value) => `writeStruct(v, ${value}, ${position});`,
    scope: { readStruct: read, writeStruct: write },
    decode(view, offset = 0) {
      fits(view, offset);
      return read(view, offset);
    },
    encode(view, value, offset = 0) {
      fits(view, offset);
      write(view, { ...zero, ...value }, offset);
    },
    bytes(value) {
      const out = new Uint8Array(size);
      write(new DataView(out.buffer), { ...zero, ...value }, 0);
      return out;
    },
  };
  return result;
}

/** What a declared struct decodes to: `type Header = Value<typeof FuseInHeader>`. */
export type Value<S> = S extends Struct<infer F> ? Decoded<F> : never;

/** A u64 as a Number, for sizes and offsets. @throws RangeError above 2^53 - 1, naming `what`. */
export function narrow(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < 0n) {
    throw new RangeError(`${what}: ${value} is out of range`);
  }
  return Number(value);
}
