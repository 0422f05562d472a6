// A Unix socket that comes to its path as one that takes connections: bound beside it, and put there by rename(2).
// Called by supervisor.ts and stack/run-loader.ts, for the first time and when somebody has removed the path.
// Between bind(2) and listen(2) a socket refuses whoever connects (unix(7), ECONNREFUSED), which reads as "nobody is there".

import { renameSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';

/**
 * Has a server listen at a path; what is there is replaced.
 * @param path ends in `.sock`. @throws Error when it cannot be bound or put there; the server is closed then.
 */
export function listenAt(server: Server, path: string, backlog?: number): Promise<void> {
  const coming = path.replace(/\.sock$/, '.new');
  return new Promise((resolve, reject) => {
    // Also later ones, of accept(2): the server goes on.
    server.on('error', reject);
    try {
      rmSync(coming, { force: true });
      server.listen({ path: coming, ...(backlog === undefined ? {} : { backlog }) }, () => {
        try {
          renameSync(coming, path);
          resolve();
        } catch (error) {
          server.close();
          reject(error as Error);
        }
      });
    } catch (error) {
      reject(error as Error);
    }
  });
}
