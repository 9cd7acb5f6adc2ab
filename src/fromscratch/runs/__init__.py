"""Recipes, and the one place that turns a recipe into objects."""
