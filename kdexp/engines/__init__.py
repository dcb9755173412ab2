"""Where groups of jobs run: in this process, in others of this machine, on a cluster."""
