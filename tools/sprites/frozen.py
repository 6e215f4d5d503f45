"""Hashes of everything that the figures on Sprites depend on: world, judges, models and splits.

`frozen.json` in the weights' folder was written before any probe was trained, by
`python -m promptprobe.tools.sprites.frozen --write`. Without `--write` the command compares. If a
hash changes, every figure has to be measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from promptprobe.tools.records import Score
from promptprobe.tools.splits import seed_of
from promptprobe.tools.sprites import CLIP, WEIGHTS
from promptprobe.tools.sprites.draw import draw
from promptprobe.tools.sprites.judges.scorer import score_images
from promptprobe.tools.sprites.judges.segments import judge_images
from promptprobe.tools.sprites.language import plural, read, word
from promptprobe.tools.sprites.plugin import MODELS
from promptprobe.tools.sprites.world import KINDS, NOUNS, Scene, scenes

RECORD = WEIGHTS / "frozen.json"
EACH = 24
"""Scenes of each kind that are drawn, worded and judged: behaviour is hashed, not source text."""


def fingerprints() -> dict[str, str]:
    """sha256 of each part; takes about ten seconds."""
    sample = [pool[at] for pool in map(scenes, KINDS) for at in _spread(len(pool))]
    return {
        "splits": digest(
            f"{scene.key}|{scene.split}|{seed_of(scene.split, scene.key, 0)}".encode()
            for kind in KINDS
            for scene in scenes(kind)
        ),
        "drawings": digest(draw(scene, at)[0].tobytes() for at, scene in enumerate(sample)),
        "language": digest(_wordings(sample)),
        "judges": digest(_verdicts(sample)),
        "detector": files([WEIGHTS / "detector.safetensors"]),
        "critic": files([WEIGHTS / "critic.safetensors"]),
        "clip": files(sorted(CLIP.rglob("*"))),
        **{name: files(sorted(one.pipeline.rglob("*"))) for name, one in MODELS.items()},
    }


def digest(parts: Iterable[bytes]) -> str:
    """One sha256 over the sha256 of each part."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def files(paths: Iterable[Path]) -> str:
    """Digest of the names and contents of files."""
    found = [path for path in paths if path.is_file()]
    return digest(part for path in found for part in (path.name.encode(), path.read_bytes()))


def _spread(size: int) -> list[int]:
    return sorted({round(at) for at in np.linspace(0, size - 1, EACH)})


def _wordings(sample: list[Scene]) -> Iterable[bytes]:
    """Three wordings of each scene, and the scene that is read in each."""
    for at, scene in enumerate(sample):
        for again in range(3):
            text = word(scene, np.random.default_rng([at, again]))
            understood = read(text).scene
            yield f"{text}|{understood.key if understood else None}".encode()


def _verdicts(sample: list[Scene]) -> Iterable[bytes]:
    """Both judges' verdicts on each picture, for its own scene and for a neighbour's."""
    for at, scene in enumerate(sample):
        picture = draw(scene, at)[0][None]
        for asked in (scene, sample[at - 1]):
            brief = word(asked, np.random.default_rng(at), "plain")
            for judge in (score_images, judge_images):
                yield _verdict(judge(brief, picture)[0])


def _verdict(score: Score) -> bytes:
    value = None if score.value is None else round(score.value, 3)
    text = score.explanation.partition("; also: ")[0]  # extras do not change the score
    for noun in NOUNS:  # nor do plurals in the explanation
        text = text.replace(plural(noun), noun)
    return f"{value}|{score.correct}|{text}".encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record the current hashes as frozen")
    found = fingerprints()
    if parser.parse_args().write:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
    recorded = json.loads(RECORD.read_text())
    for part, value in found.items():
        print(f"{part:10} {value[:16]}  {'as frozen' if recorded[part] == value else 'CHANGED'}")
    return int(recorded != found)


if __name__ == "__main__":
    raise SystemExit(main())
