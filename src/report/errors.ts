// What can go wrong while changes are shown: content that is gone by now, a page that cannot be written.
// Thrown by patch.ts and html.ts; cli/ shows the message as it is.
// A message is one line: what, where, what to do.

export class ReportError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ReportError';
  }
}
