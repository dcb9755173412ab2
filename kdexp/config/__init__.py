"""From the words of a command line to the values of a run, and what the run is called."""
