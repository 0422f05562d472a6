// What can go wrong before a mount stands, as a class that carries the kind of mistake and one readable line.
// Thrown by stack/ and the supervisor's client; cli/exit-codes.ts turns the kind into an exit code.
// The line reads "what: where: what to do".

/**
 * - `option`: an option or argument is unknown, malformed or contradicts another one.
 * - `layer`: a layer, upper, work directory or mount point is missing, unusable or loops.
 * - `permission`: the machine or the user's rights do not allow it.
 * - `busy`: somebody else uses it.
 * - `absent`: no such mount, or no such path in it.
 * - `server`: the server or the supervisor failed.
 */
export type MountErrorKind = 'option' | 'layer' | 'permission' | 'busy' | 'absent' | 'server';

export class MountError extends Error {
  readonly kind: MountErrorKind;

  constructor(kind: MountErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MountError';
    this.kind = kind;
  }
}

/** The kernel would not mount it: where nobody insisted on the kernel, a server does. */
export class KernelRefusal extends MountError {}

/** A short reason for a failed system call of node:fs, without its path: `permission denied`. */
export function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  switch (code) {
    case 'ENOENT':
      return 'no such file or directory';
    case 'ENOTDIR':
      return 'not a directory';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'ELOOP':
      return 'too many symbolic links';
    case 'EROFS':
      return 'read-only filesystem';
    case 'ENOTCONN':
      return 'its server is gone (a dead mount; unmount it first)';
    case 'ENAMETOOLONG':
      return 'name too long';
    default:
      return code ?? (error instanceof Error ? error.message : String(error));
  }
}
