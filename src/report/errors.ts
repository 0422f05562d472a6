// What can go wrong while changes are shown: content that is gone by now.
// Thrown by patch.ts; cli/ shows the message as it is.
// A message is one line: what, where, what to do.

export class ReportError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ReportError';
  }
}
