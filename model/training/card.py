"""The built-in model's card and weights, made from a training checkpoint: `python -m model.training.card`."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import ModelCard, save_checkpoint
from model.training.dataset import ACCOMPANIMENTS, DOUBLED_VOICE, PRODUCED_VOICE, VOICES, WITHOUT_VOCALS
from model.training.evaluate import as_markdown, evaluate, held_out_songs
from model.training.train import TrainSettings, load_state

LICENCE = "CC-BY-4.0"

_CARD = """# built-in live model

The small causal band-split RoFormer that ships with stembridge: four stems (vocals, drums, bass, other) at
44.1 kHz stereo with 882 frames (20 ms) of latency, {millions:.2f} million parameters, real masks on magnitudes that share every bin out
among the stems. **A first version**, trained for {steps} steps ({hours:.1f} hours of mixed audio) on one CPU core with
`stembridge train`. The run was steered while it went on: the mix of the data changed after 420, 1022 and 1347 steps (lower basses,
sub-basses, brighter voices, more recorded and fewer synthesised voices); after 1600 the network was made smaller (shared keys and values,
magnitudes in, real masks out, weights converted) and the loss changed from L1 to the signal-to-error ratio; after 3150 a third of the voices
became produced ones (vocoder, drive, echo and so on); after 4150 silent stems weigh less in the loss, and the learning rate was raised once
more. A fresh run has all this from its start, so its result will differ.

## Scores

SI-SDR in dB on held-out songs (recorded ones whole, the others {seconds:.0f} s), higher is better. *mixture*: doing nothing. *band-pass*: 150 Hz to 7 kHz
of the mixture for vocals, 30 to 250 Hz for bass. *oracle mask*: ideal ratio masks on an STFT of 2048/512, which need the
true stems and bound what masks on magnitudes reach. *accompaniment*: the mixture less the vocals.

{scores}

Potassium and Caesium (Software-Entwicklungskit) were never trained on, but two other songs of the same act were, and the changes of the data mix
named above were made after looking at scores and errors on these two and on synthesised songs: read their scores as optimistic. In Caesium the bass
lies inside `other`, so neither is scored. Phrases are test-split recordings over test-split instrumentals, set 2 dB below them. Synthesised
songs come from the project's generator with unseen seeds.

## What it is not good for

- It is far below published models of any size: vocals come out with clear remains of the band, and the band keeps
  clear remains of the singer. It is here so that everything works at once, not as the best separation one can have.
{below}- Trained on few real voices (mostly house and trance phrases, one reader, one singer of single notes): choirs, rap, screaming, child voices,
  opera and languages other than English and German are untested. Backing vocals and lead are not told apart.
- Lead synthesisers, saxophone, bowed strings and guitar solos can leak into vocals, toms and hand drums into bass.
- `other` is whatever remains and the least reliable stem.
- Mono and strongly band-limited material (telephone, old records) was not trained on. Rates other than 44.1 kHz are resampled.
- No listening test was done.

## Data

Mixed on the fly: gains within 15 dB, pitch within 4 semitones, three in ten voices within 8 (basses down to an octave lower), vocals at -10 to +4 dB of the accompaniment,
equalisers, reverb; {produced:.0%} of sung and spoken voices after one to three treatments (vocoder, harmonies, telephone, drive, echo, widening,
compression); {doubled:.0%} of all voices doubled to either side; {without:.0%} of items are without vocals. Accompaniments: {accompaniments}. Voices: {voices}. Instrumental recordings
("background") are known only as a whole: the loss then compares vocals and the rest. Files that are silent, shorter than 0.3 s (voices) or
whose name tells no drum or pitch (one-shots) were left out.

| material | by | licence | changes |
|---|---|---|---|
| "Hydrogen", "Sodium" stems (everythingisremixed) | Software-Entwicklungskit | CC0 1.0 | summed per stem, 150 s of each |
| vocal phrases (etv, shv, dvs1, dvs2) | Producer Space, producerspace.com | CC0 | mixed |
| sung notes and vowels (human-voice-dataset) | vocobox | MIT, Copyright (c) 2014 vocobox | mixed |
| German speech | Kerstin / Rhasspy | CC0 1.0 | mixed |
| MuldjordKit | Lars Muldjord / DrumGizmo, SFZ by kinwie | CC BY 4.0 | microphones mixed to stereo, sequenced |
| sonic-pi samples | freesound.org authors; Uwe Zahn (arovane) | CC0 | sequenced |
| Growlybass, Meatbass, Emilyguitar, Weresax | Karoryfer Lecolds, D. Smolken | CC0 1.0 | sequenced |
| Salamander Grand Piano V3 | Alexander Holm | CC BY 3.0 | trimmed, sequenced |
| Vibe Ace, Dance of the Sugar Plum Fairies, and music from mcmusic and Tandemonium | Kevin MacLeod (incompetech.com) | CC BY 3.0 and CC BY 4.0 | first 90 s, mixed |
| muzak tiles (digabi) | BlueWhales, eliogu, MadDirtMonkey, RomanSenykMusic, Aila Scott, White Noise Audio | CC BY 3.0 | first 90 s, mixed |
| synthesised songs | stembridge | GPL-3.0-or-later code, output free | - |

Held-out songs also use music by Hyde, Raphael Novarina, Kevin MacLeod (CC BY) and phrases by Producer Space; none of it is part of the weights.

## Licence

The weights are published under CC BY 4.0: name stembridge and the authors above.
"""  # noqa: E501


@dataclass(frozen=True)
class _Release:
    rows: list[dict[str, Any]]
    steps: int
    hours: float
    seconds: float
    millions: float


def _shortfalls(rows: list[dict[str, Any]]) -> str:
    """Where the model is below doing nothing or below a band-pass, in plain words."""
    lines = []
    for name, key in (("the unprocessed mixture", "mixture"), ("a plain band-pass", "band_pass")):
        worse = [f"{r['song']} ({r['stem']})" for r in rows if r[key] is not None and r["model"] < r[key]]
        if worse:
            lines.append(f"- Below {name} on: {', '.join(worse)}.\n")
    return "".join(lines)


def _shares(weights: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%} {kind}" for kind, share in weights.items())


def card_text(release: _Release) -> str:
    """The model card as Markdown."""
    return _CARD.format(
        scores=as_markdown(release.rows), below=_shortfalls(release.rows), steps=release.steps,
        hours=release.hours, seconds=release.seconds, millions=release.millions,
        without=WITHOUT_VOCALS, produced=PRODUCED_VOICE, doubled=DOUBLED_VOICE,
        accompaniments=_shares(ACCOMPANIMENTS), voices=_shares(VOICES),
    )  # fmt: skip


def publish(training: Path, audio_dir: Path, weights: Path, seconds: float) -> list[dict[str, Any]]:
    """Score a training's EMA weights and write builtin-live.safetensors, MODEL_CARD.md and scores.json.

    Returns the score table. Raises TrainingError where there is no checkpoint.
    """
    saved = torch.load(training / "training.pt", map_location="cpu", weights_only=True)
    settings = TrainSettings(out_dir=training, batch=saved["batch"], seed=saved["seed"])
    state = load_state(settings)
    rows = evaluate(state.ema.eval(), held_out_songs(audio_dir, settings.cache_dir, seconds))
    audio_s = state.step * settings.batch * settings.item_hops * settings.config.hop_frames / 44_100
    millions = sum(p.numel() for p in state.ema.parameters()) / 1e6
    text = card_text(_Release(rows, state.step, audio_s / 3600, seconds, millions))
    weights.mkdir(parents=True, exist_ok=True)
    save_checkpoint(weights / "builtin-live.safetensors", state.ema, ModelCard(LICENCE, "stembridge", text))
    (weights / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    table = json.dumps({"steps": state.step, "rows": rows}, indent=1)
    (weights / "builtin-live.safetensors").chmod(0o644)
    (weights / "scores.json").write_text(table + "\n", encoding="utf-8")
    return rows


def main() -> None:
    """Parse the command line, publish, print the table."""
    parser = argparse.ArgumentParser(prog="python -m model.training.card", description=__doc__)
    parser.add_argument("--training", type=Path, required=True, help="folder of a training")
    parser.add_argument("--audio", type=Path, required=True, help="library with a test split")
    parser.add_argument("--weights", type=Path, required=True, help="folder to write weights and card into")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each test song")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(as_markdown(publish(args.training, args.audio, args.weights, args.seconds)))


if __name__ == "__main__":
    main()
