// The preconditions of the documentation's receiver: an Express app, and a
// store of processed events.
const express = require('express');
const app = express();
app.use(express.json());
const processed = new Set();
const isEventAlreadyProcessed = (id) => processed.has(id);
const markEventAsProcessed = (id) => processed.add(id);
