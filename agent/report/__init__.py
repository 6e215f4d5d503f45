"""report.html: what a run did, on one self-contained page; and a page that compares runs."""
