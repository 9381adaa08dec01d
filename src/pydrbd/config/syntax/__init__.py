"""Text of either dialect -> statements with their places; one grammar and one reader per dialect."""
