"""How a run's budget is spent: how many candidates, when to look at them, whom to finish."""
