// What the documentation's receiver takes for granted: an Express app, and a
// memory of processed events.
const express = require('express');
const app = express();
app.use(express.json());
const processed = new Set();
const isEventAlreadyProcessed = (id) => processed.has(id);
const markEventAsProcessed = (id) => processed.add(id);
