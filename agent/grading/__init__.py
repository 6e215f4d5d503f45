"""Judges that only grade: during a run, and afterwards on finished runs."""
