"""Where groups of jobs run: in this process, in other processes on this machine, or on a cluster."""
