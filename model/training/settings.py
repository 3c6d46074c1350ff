"""What a training run is told, and the streams of items that follow from it. No torch: for workers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.config import CausalConfig
from model.training.dataset import ItemStream, Pool
from model.training.mix import DEFAULT_MIX, Mix
from model.training.published_mix import PublishedItemStream
from model.training.recipe import RECIPES, Recipe
from model.training.recordings import TrainingDataError
from model.training.songs import UNSEEN_SEED
from model.training.sources import Sources, accepted, load_sources

STREAMS: dict[str, type[ItemStream]] = {"own": ItemStream, "published": PublishedItemStream}
"""How items are mixed, by the name in a recipe."""

VALIDATION_SEED = 9_000_002
_RARELY = 1e-9  # in effect only where there is nothing else
_VALIDATION_SONGS = 4  # of each kind; they are rendered for this alone


@dataclass(frozen=True)
class TrainSettings:
    """What to train, on what, for how long.

    `audio_dir` is a library with a files.tsv, `songs_dir` a folder of songs in four stems; both, one or none
    (then the project's own songs alone). `recipe.steps` shapes the learning rate; `minutes` ends this run
    earlier. `resume` goes on from the checkpoint in `out_dir`; `init` (an id or a path of a model) starts a
    new run from other weights. Items are made by `workers` processes ahead of time, by this one if 0. Every
    `validate_every` steps (never, if 0) the loss on `validation_items` fixed items is taken. Where a file
    or song cannot be used, `bad_data` says whether to "skip" or to "refuse".
    """

    out_dir: Path
    audio_dir: Path | None = None
    songs_dir: Path | None = None
    config: CausalConfig = field(default_factory=CausalConfig)
    recipe: Recipe = RECIPES["own"]
    minutes: float = math.inf
    resume: bool = False
    init: str | None = None
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    validate_every: int = 200
    validation_items: int = 16
    checkpoint_every_s: float = 120.0
    pool: Pool = field(default_factory=Pool)
    mix: Mix = DEFAULT_MIX
    bad_data: str = "skip"

    @property
    def item_frames(self) -> int:
        """Frames of an item: whole hops."""
        hop = self.config.hop_frames
        return round(self.recipe.item_s * self.config.sample_rate_hz / hop) * hop

    @property
    def checkpoint_path(self) -> Path:
        """Where the resumable state lies."""
        return self.out_dir / "training.pt"

    @property
    def weights_path(self) -> Path:
        """Where the EMA weights lie: what every other command takes as a model."""
        return self.out_dir / "model.safetensors"

    @property
    def cache_dir(self) -> Path:
        """Where decoded recordings and rendered songs lie; may be deleted."""
        return self.out_dir / "cache"


def _sources(settings: TrainSettings, split: str) -> Sources:
    return load_sources(settings.audio_dir, settings.songs_dir, settings.cache_dir, split)


def training_stream(settings: TrainSettings) -> ItemStream:
    """The items to learn from. Raises TrainingDataError where a folder or the seed is unusable."""
    if settings.seed in (UNSEEN_SEED, VALIDATION_SEED):
        raise TrainingDataError(f"seed {settings.seed} makes the songs that test models; choose another")
    return _stream(settings, _sources(settings, "train"))


def validation_sources(settings: TrainSettings) -> Sources:
    """Recordings of the test splits; without any, those of training, and a note that says so.

    Raises TrainingDataError as `accepted`.
    """
    sources = accepted(_sources(settings, "test"), settings.bad_data)
    if not sources.empty:
        return sources
    training = _sources(settings, "train")
    if training.empty:
        return sources
    said = "validation: no test split, so mixes are unseen but the recordings are those of training"
    return replace(training, left_out=sources.left_out, notes=[said])


def validation_stream(settings: TrainSettings) -> ItemStream:
    """Items of another seed, from `validation_sources`. Where they lack what the mix asks for, synthesis
    stands in."""
    sources = validation_sources(settings)
    pool = replace(settings.pool, songs=min(_VALIDATION_SONGS, settings.pool.songs))
    mix = replace(
        settings.mix,
        synthetic=settings.mix.synthetic or _RARELY,
        synthetic_voice=settings.mix.synthetic_voice or _RARELY,
    )
    return _stream(replace(settings, seed=VALIDATION_SEED, pool=pool, mix=mix), sources)


def _stream(settings: TrainSettings, sources: Sources) -> ItemStream:
    make = STREAMS[settings.recipe.items]
    return make(sources, settings.cache_dir, settings.seed, settings.item_frames, settings.pool, settings.mix)
