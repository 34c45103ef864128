"""Stripes at some orientation: a world, a measure, a recipe and a figure for ToyViT."""
