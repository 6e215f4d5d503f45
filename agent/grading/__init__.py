"""Judges that only grade: during a run, against its winner, and on finished runs anew."""
