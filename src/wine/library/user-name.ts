// What Wine calls the user: the name of the profile in drive_c/users.
// Used where a base is made, and where a prefix gets a profile.
// Follows: set_home_dir() of Wine 8, dlls/ntdll/unix/loader.c.

import { userInfo } from 'node:os';

export function userName(env: NodeJS.ProcessEnv): string {
  const name = env['USER'] ?? accountName() ?? 'wine';
  return name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1);
}

/** undefined: nothing is known of this user, as in many containers. */
function accountName(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}
