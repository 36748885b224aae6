"""How much of a user's weights the next lesson starts from.

A lesson's support set holds the kept events again, so there are two ways to
learn on. From the stored weights, what is not kept any more still counts; but
the outer loop has trained the steps from the meta-initialization, and more of
them than it knew of may go too far. In between lies

    start = meta_init + carried_share * (stored - meta_init)

Which share serves best is a matter of the data, of how long users stay and how
much of what they do is kept, and training does not tell: each task starts from
the meta-initialization. So it is chosen once training has ended.
"""

import numpy as np

from serving.contract.regimes import ONLINE
from trainer.stream_validation import ScorerValidation, StreamFigures
from trainer.two_tower import PartitionedTwoTower

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def choose_carried_share(
    model: PartitionedTwoTower, validation: ScorerValidation
) -> StreamFigures:
    """Sets the share with which users are served best who learn always.

    Args:
        model: Trained. A model whose solver needs no start is left as it is.
        validation: Scores that model's stream on meta_valid; the mean of AUC
            and wGAUC decides.

    Returns:
        The model's figures as it then is.
    """
    share = model.inner_loop.carried_share
    if share is None:
        return validation.evaluate()
    found = []
    for candidate in SHARES:
        share.assign(candidate)
        found.append(validation.evaluate())
    best = int(np.argmax([f.auc[ONLINE] + f.wgauc[ONLINE] for f in found]))
    share.assign(SHARES[best])
    return found[best]
