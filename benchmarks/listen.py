"""A page to listen to of the held-out songs: python -m benchmarks.listen --audio LIB --report page.html.

Ten seconds of every song, where the voice is loudest: the mix, what the model gives, and the truth.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.latency_quality import chosen
from benchmarks.model_hop import causal
from host.errors import guarded
from host.listening import EXCERPT_S, excerpt
from host.outputs import results_folder, write_text
from host.report import ScoredSong, listening_page
from model.causal import CausalBSRoformer
from model.filters import RATE_HZ
from model.training.arguments import OneLineParser, count, tell
from model.training.evaluate import TRUE_PARTS, HeldOutSong, estimates_of, held_out_songs, whole


def heard(network: CausalBSRoformer, song: HeldOutSong) -> ScoredSong:
    """A song's tracks: only the stems whose truth is known."""
    estimates = estimates_of(whole(network), song.mixture)
    truths = {stem: song.truth(stem) for stem in TRUE_PARTS if stem in estimates}
    stems = {stem: (estimates[stem], truth) for stem, truth in truths.items() if truth is not None}
    return excerpt(song.name, song.mixture, stems, RATE_HZ)


@guarded
def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin", help="model id or path (default: %(default)s)")
    parser.add_argument(
        "--audio", type=Path, help="library with a test split (default: synthetic songs only)"
    )
    parser.add_argument("--songs", type=count, help="how many of each set (default: all)")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE", help="the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = causal(options.model)
    with results_folder(options.report.parent), TemporaryDirectory() as cache:
        songs = chosen(held_out_songs(options.audio, Path(cache), tell), options.songs, EXCERPT_S)
        page = listening_page(f"{options.model} on held-out songs", [heard(network, song) for song in songs])
        write_text(options.report, page)


if __name__ == "__main__":
    main()
