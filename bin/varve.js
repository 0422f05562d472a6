#!/usr/bin/env node
// The command of the installed package; a clone uses ./varve, which builds first.
import '../dist/bundle/programs/main.js';
