"""The probe's network with one thing changed, and rival networks."""
