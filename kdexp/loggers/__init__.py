"""Where a run's rows go besides its record. A logger is built from (folder, name, config) and its own parameters, and has
`log(row)`, `close()` and `require()`, which raises ValueError if its package is not installed."""
