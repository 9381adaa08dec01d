"""A planned restart: one program hands what it holds to the next, which runs in the same process."""
