"""The page of `promptprobe ui`: a live view of a run, in which a person can pick who goes on."""
