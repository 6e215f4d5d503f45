"""From shards to a trained, calibrated and validated probe."""
