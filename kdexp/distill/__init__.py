"""Distillation methods: one file each, the formula with its source."""
