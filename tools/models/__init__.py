"""Which model and which probe a name means, opened and placed on a device."""
