// What both directions of regedit's files need to agree on: the first line, and the names of the hives.
// Used by regedit.ts and regedit-read.ts.
// Follows: programs/regedit/regproc.c of Wine.

import type { HiveName } from './hive.js';

export const REGEDIT_5 = 'Windows Registry Editor Version 5.00';

/** Where a hive stands in regedit. */
export const REGEDIT_ROOTS: Record<HiveName, string> = {
  system: 'HKEY_LOCAL_MACHINE',
  user: 'HKEY_CURRENT_USER',
  userdef: 'HKEY_USERS\\.Default',
};
