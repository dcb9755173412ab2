"""Where a run's rows go beside its record. A logger is made with (folder, name, config) and its own parameters, and has
`log(row)`, `close()` and `require()`, which raises ValueError if its package is not installed."""
