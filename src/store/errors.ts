// What can be wrong with a store, or with what is asked of it, as one readable line.
// Thrown by store/; cli/ turns the kind into an exit code.
// The line reads "what: where: what to do".

/**
 * - `store`: it is no store, or something in it is missing or damaged.
 * - `busy`: somebody else works on it.
 * - `absent`: no such image.
 * - `name`: a name that no image can have.
 */
export type StoreErrorKind = 'store' | 'busy' | 'absent' | 'name';

export class StoreError extends Error {
  readonly kind: StoreErrorKind;

  constructor(kind: StoreErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StoreError';
    this.kind = kind;
  }
}
