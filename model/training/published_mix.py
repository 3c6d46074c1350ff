"""The augmentations of arXiv 2309.02612: stems of any songs and places, mixed linearly."""

from __future__ import annotations

import numpy as np

from model.training.dataset import Item, ItemStream, excerpt
from model.training.songs import STEM_NAMES
from model.training.sources import StemSong
from model.training.synth import Audio, Rng, active_rms

GAIN_DB = 3.0
SILENCED = 0.1
QUIETEST = 10.0 ** (-50.0 / 20.0)
_TRIES = 6


class PublishedItemStream(ItemStream):
    """Items of recorded songs (of synthesised ones where there are none), each stem from a song and a place
    of its own. A stem is silence in a tenth of all cases, else an excerpt louder than -50 dB, +-3 dB.
    """

    @property
    def remarks(self) -> list[str]:
        """As of any stream; and what these items have no use for, or lack."""
        sources, remarks = self.sources, super().remarks
        parts = (sources.singing, sources.speech, sources.backgrounds, sources.one_shots)
        if idle := sum(len(part) for part in parts):
            remarks.append(f"{idle} recordings that are not songs in stems: published items use none")
        lacking = ", ".join(name for name in STEM_NAMES if not self._clean(name))
        if sources.songs and lacking:
            remarks.append(
                "published items take no accompaniment as a whole, and synthesise what no song has alone:"
                f" {lacking}"
            )
        return remarks

    def item(self, index: int) -> Item:
        """Item number `index`: [4, 2, frames] stems, the same for the same seed and sources."""
        rng = np.random.default_rng((self._seed, index))
        return Item(np.stack([self._segment(rng, name) for name in STEM_NAMES]), split=True)

    def _segment(self, rng: Rng, name: str) -> Audio:
        """One stem; silence too where a few tries find nothing louder."""
        gain = np.float32(10.0 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20.0))
        silenced = rng.random() < SILENCED
        for _ in range(0 if silenced else _TRIES):
            pcm = self._source_of(rng, name).stems[name]
            sound = excerpt(pcm, self._start(rng, pcm.shape[-1], 1.0), self._frames, 1.0)
            if active_rms(sound) > QUIETEST:
                return sound * gain
        return np.zeros((2, self._frames), dtype=np.float32)

    def _source_of(self, rng: Rng, name: str) -> StemSong:
        clean = self._clean(name)
        return clean[rng.integers(len(clean))] if clean else self._song(rng, "synthetic")

    def _clean(self, name: str) -> list[StemSong]:
        """The songs whose stem is surely clean: without bass, `other` may hold the bass."""
        given = [s for s in self.sources.songs if name in s.stems]
        return [s for s in given if s.complete or name in ("vocals", "drums")]
