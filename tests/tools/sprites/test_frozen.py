"""World, judges, models and splits are what they were when the first probe was trained."""

import json

from promptprobe.tools.sprites.frozen import RECORD, fingerprints


def test_nothing_that_figures_rest_on_has_changed() -> None:
    recorded, found = json.loads(RECORD.read_text()), fingerprints()
    changed = sorted(part for part in found if found[part] != recorded[part])
    assert not changed, f"{changed} differ from {RECORD.name}: every figure must be measured again"
