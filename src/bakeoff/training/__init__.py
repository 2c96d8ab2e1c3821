"""Training: a recipe becomes parts, the parts run through one loop, the loop leaves a record."""
