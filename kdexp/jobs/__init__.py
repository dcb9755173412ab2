"""What is wanted: a job, its group, and whether what is on disk is still that."""
