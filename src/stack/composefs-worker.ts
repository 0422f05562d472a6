// A worker thread of a server that serves a composefs image with its content.
// Started by fuse/jobs.ts (ServeOptions.work), the program itself; objects are compared with their digests here.

import { workUntilStopped } from '../fuse/work-loop.js';
import { performVerify } from '../imagefs/verify-job.js';

workUntilStopped(performVerify);
