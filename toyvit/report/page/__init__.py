"""The page of a report: one file with everything to see of some runs, opened in a browser."""
