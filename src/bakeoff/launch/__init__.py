"""Run what a study still lacks: check it first, then many runs at once on this machine."""
