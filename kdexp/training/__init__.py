"""Trains groups of jobs: the loop, the learners in it, and what they leave on disk."""
