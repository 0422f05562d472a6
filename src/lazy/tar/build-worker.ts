// The thread that unpacks a tar layer, so that whoever waits for it hears of other things meanwhile.
// Started by build-apart.ts for one layer; says how it went, and ends.
// It is asked to stop by a word of shared memory, not ended from outside: a thread that is ended within a call to C takes the process with it.

import { parentPort, workerData } from 'node:worker_threads';
import { TreeError } from '../../tree/errors.js';
import type { BuildOrders, BuildOutcome } from './build-apart.js';
import { StoppedError } from './index-window.js';
import { buildTarLayer } from './tar-layer.js';

const { options, staged, path, stop } = workerData as BuildOrders;

const tell = (outcome: BuildOutcome): void => parentPort?.postMessage(outcome);

buildTarLayer({ ...options, stop }, staged, path).then(
  () => tell({ is: 'built' }),
  (error: Error & { code?: string }) => {
    const { message, code } = error;
    if (error instanceof StoppedError) tell({ is: 'stopped' });
    else if (error instanceof TreeError || error instanceof RangeError)
      tell({ is: 'bad', message });
    else tell({ is: 'failed', message, ...(code === undefined ? {} : { code }) });
  },
);
