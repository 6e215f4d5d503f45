"""What a kill costs: runs are killed while they write, or at random, and then resumed."""
