"""From a command line to the settings of a run, and to the run's name."""
