"""What a run is computed on: device, precision, graphs, random numbers, signals."""
