// A worker thread with the jobs that every filesystem has.
// Started by jobs.ts where the server was given no other program (ServeOptions.work).

import { perform } from './job-work.js';
import { workUntilStopped } from './work-loop.js';

workUntilStopped(perform);
