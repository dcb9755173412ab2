"""Distillation methods: one file each, with the formula and its source."""
