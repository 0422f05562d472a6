// errno numbers of Linux and their names, and the one error class of the cold paths.
// Used by every room; the hot path passes -errno as plain numbers instead.
// Follows: include/uapi/asm-generic/errno{,-base}.h (the same on x86-64, arm64 and riscv64).

export const E = {
  PERM: 1,
  NOENT: 2,
  INTR: 4,
  IO: 5,
  NXIO: 6,
  BADF: 9,
  AGAIN: 11,
  NOMEM: 12,
  ACCES: 13,
  BUSY: 16,
  EXIST: 17,
  XDEV: 18,
  NODEV: 19,
  NOTDIR: 20,
  ISDIR: 21,
  INVAL: 22,
  MFILE: 24,
  NOTTY: 25,
  TXTBSY: 26,
  FBIG: 27,
  NOSPC: 28,
  ROFS: 30,
  MLINK: 31,
  RANGE: 34,
  NAMETOOLONG: 36,
  NOSYS: 38,
  NOTEMPTY: 39,
  LOOP: 40,
  NODATA: 61,
  BADMSG: 74,
  OVERFLOW: 75,
  OPNOTSUPP: 95,
  CONNABORTED: 103,
  NOTCONN: 107,
  STALE: 116,
  UCLEAN: 117,
  DQUOT: 122,
  CANCELED: 125,
} as const;

const NAMES = new Map<number, string>(Object.entries(E).map(([name, n]) => [n, `E${name}`]));

/** `ENOENT` for 2 or -2; unknown numbers as `errno 77`. */
export function errnoName(errno: number): string {
  const n = Math.abs(errno);
  return NAMES.get(n) ?? `errno ${n}`;
}

/** A failed operation outside the hot path: which call, on what, with which errno. */
export class SysError extends Error {
  readonly errno: number;
  readonly op: string;
  readonly path: string | undefined;

  /** @param errno positive or negative errno. */
  constructor(op: string, errno: number, path?: string, options?: ErrorOptions) {
    super(`${op}${path === undefined ? '' : ` ${path}`}: ${errnoName(errno)}`, options);
    this.name = 'SysError';
    this.errno = Math.abs(errno);
    this.op = op;
    this.path = path;
  }
}

/** Returns `value`, or throws SysError when it is a negative errno. */
export function check(value: number, op: string, path?: string): number {
  if (value < 0) throw new SysError(op, value, path);
  return value;
}
