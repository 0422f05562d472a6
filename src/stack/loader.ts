// The process that loads the lazy layers of a user's mounts from registries, started by the supervisor when one is needed.
// Ends with 0 when everything is here that is in use; the mounts go on without it.
// What it does stands in run-loader.ts and lazy/load/.

import { localContent } from '../lazy/load/local.js';
import { limitsOf, registryRanges } from '../lazy/load/registry-ranges.js';
import { layerStoreCommands } from '../lazy/podman/commands.js';
import { loadHttp } from '../oci/transport.js';
import { reportLoaderError } from '../supervisor/loader-orders.js';
import { runLoader } from './run-loader.js';

const log = (line: string): void => console.error(`${new Date().toISOString()} ${line}`);
const limits = limitsOf(process.env);
// While the supervisor's orders come.
void loadHttp();

runLoader(
  {
    ...registryRanges({ limits, log }),
    local: localContent(log),
    connections: limits.connections,
    limits,
    log,
  },
  layerStoreCommands({ limits, log }),
).then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    const message = error instanceof Error ? error.message : String(error);
    reportLoaderError({ kind: 'server', message });
    process.exit(1);
  },
);
