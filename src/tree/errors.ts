// What can be wrong with the source of a tree: an archive or dump that is malformed, a folder that changes while it is read.
// Thrown by scan, tar-read, cpio-read, dump and extract; cli/ shows the message as it is.
// A message is one line: where, what, and for archives the structure, the field and the byte offset.

/** A source that cannot become a tree, or a tree that cannot be written where it should be. */
export class TreeError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TreeError';
  }
}

/** A malformed archive: which structure and field, at which byte of the (decompressed) archive. */
export class ArchiveError extends TreeError {
  readonly structure: string;
  readonly field: string;
  /** Byte offset of the structure. */
  readonly offset: number;

  /** @param structure for example `tar header` @param problem what is wrong with the field, with its value */
  constructor(structure: string, field: string, offset: number, problem: string) {
    super(`${structure} at byte ${offset}: ${field} ${problem}`);
    this.name = 'ArchiveError';
    this.structure = structure;
    this.field = field;
    this.offset = offset;
  }
}

/** A malformed line of a dump. */
export class DumpError extends TreeError {
  /** From 1. */
  readonly line: number;
  readonly field: string;

  constructor(line: number, field: string, problem: string) {
    super(`dump line ${line}: ${field} ${problem}`);
    this.name = 'DumpError';
    this.line = line;
    this.field = field;
  }
}
