"""The page of `promptprobe ui`: a run as it goes, with a hand in who goes on"""
