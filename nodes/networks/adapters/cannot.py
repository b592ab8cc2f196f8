"""What models of others cannot do, in sentences with the way out: said when a workflow is checked, and by adapters.

Knows no network and no torch.
"""

from __future__ import annotations


def no_blocks(family: str) -> str:
    """Why a model's blocks are all computed."""
    return (
        f"Blocks cannot be skipped or cached in a {family} model, only in one of Kineograph's own: take the plain "
        "velocity node."
    )


def one_level_only(family: str) -> str:
    """Why a model cannot be given frames as cells of level 0, and what helps."""
    return (
        f"A {family} model is told one noise level for the whole clip, and parts of this one have others (given "
        "frames, sdedit_frames, morph): put renoise_given between the loop's latent and patchify, which keeps them by "
        "replacement, or take sdedit, which has one level."
    )


def shown_nothing(family: str) -> str:
    """Why a model that is told of given frames cannot do without."""
    return (
        f"This {family} model makes videos of pictures, and it is shown none: put give_video (for VACE also "
        "show_control) between latent_noise and begin_sampling, and where the VAE was loaded alone, show_given_frames "
        "behind it."
    )
