#!/usr/bin/env node
// The command as a program of Node; the installed package has bin/varve, a clone ./varve, which builds first.
import { fileURLToPath } from 'node:url';

const main = new URL('../dist/bundle/programs/main.js', import.meta.url);
// What is started once more, or finds files beside it, is the main program.
process.argv[1] = fileURLToPath(main);
await import(main.href);
