"""What a kill costs: runs killed where they write, and at random, then gone on with."""
