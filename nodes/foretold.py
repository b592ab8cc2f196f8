"""What is known of a latent before anything runs, and what a model cannot be asked then. Knows no tensor.

Nodes that make or change a latent hand these facts on (``foretells``), through loops too, and the nodes that ask a
model refuse what it cannot do (``fits``), when the workflow is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kineograph.nodes.sockets import DiT, LatentSpec

NOT_FIRST = (
    "This model's VAE is causal: what a latent frame holds depends on all frames before it, and here those are not "
    "known yet. Give the clip first (at 0, from_end false), or set near, which gives what is near the right latent. "
    "Another way to extend backward is to reverse_video before and after extending forward, which is right for "
    "movements that look alike both ways."
)


@dataclass(frozen=True)
class LatentFacts:
    """Of a latent, or of the tokens it is cut into, before it is made.

    Attributes:
        spec: what one cell covers.
        shown: whether frames are given in channels beside it.
        uneven: whether some cells are under less noise than others.
        grouped: whether it was cut off a video, so that no frame alone begins it.
        padded: whether latent frames stand before it that fill up its DiT's tokens, and are no part of it.
    """

    spec: LatentSpec
    shown: bool = False
    uneven: bool = False
    grouped: bool = False
    padded: bool = False


def noise_facts(vae: LatentSpec) -> LatentFacts:
    """Of noise."""
    return LatentFacts(vae, padded=vae.patch_time > 1)


def encoded_facts(vae: LatentSpec) -> LatentFacts:
    """Of a clip's latent."""
    return LatentFacts(vae)


def unpadded_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent without what fills up tokens."""
    return replace(latent, padded=False)


def given_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent that frames are given to."""
    return replace(latent, shown=True) if latent.spec.shows else uneven_facts(latent)


def uneven_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent whose cells stand under noise of several levels."""
    return replace(latent, uneven=True)


def same_facts(latent: LatentFacts) -> LatentFacts:
    """Of a latent that stays as it is in all this."""
    return latent


def even_facts(dit: DiT, latent: LatentFacts) -> LatentFacts:
    """Of a latent as a model is told of it."""
    return replace(latent, uneven=False) if dit.one_level else latent


def pair_facts(latent: LatentFacts) -> tuple[LatentFacts, LatentFacts]:
    """Of two latents like one."""
    return latent, latent


def grouped_facts(latent: LatentFacts) -> LatentFacts:
    """Of latent frames cut off a video's end."""
    return replace(latent, grouped=True)


def check_place(latent: LatentFacts, at: int, from_end: bool, near: bool) -> None:
    """Refuse to give frames where a causal VAE cannot tell their latent.

    Raises:
        ValueError: why, and the way out.
    """
    spec = latent.spec
    if spec.shows == "first" and (at or from_end):
        raise ValueError("This model is shown the first frame of a video alone: give a picture at 0, from_end false.")
    if latent.padded and not spec.shows:
        raise ValueError(
            f"Before a video of this model stand latent frames that fill up its tokens of {spec.patch_time}, so no "
            "frame of it can be given: take its image to video model, or sdedit."
        )
    if spec.causal and not (spec.shows or spec.passes or near) and (at or from_end):
        raise ValueError(NOT_FIRST)


def check_handed(latent: LatentFacts, given: LatentFacts) -> None:
    """Refuse to give latent frames of the middle of a video to one whose VAE is causal.

    Raises:
        ValueError: why, and the way out.
    """
    if latent.spec.causal and given.grouped:
        raise ValueError(
            "This model's VAE is causal, so latent frames from the middle of a video cannot begin another: hand on "
            "frames instead (vae_decode, trim_video, give_video), as workflows/long_video_by_frames.json does."
        )


def check_decoded(latent: LatentFacts) -> None:
    """Refuse to decode what is no part of a video.

    Raises:
        ValueError: what it is, and the way out.
    """
    if latent.padded:
        raise ValueError(
            f"Before this video stand latent frames that fill up its model's tokens of {latent.spec.patch_time}: put "
            "leave_out_padding before the decoder, as in workflows/cogvideox_text_to_video.json."
        )


def check_asked(dit: DiT, patches: LatentFacts) -> None:
    """Refuse what a model cannot be asked.

    Raises:
        ValueError: what it cannot do, and the way out.
    """
    from kineograph.nodes.networks.adapters import cannot

    if dit.one_level and patches.uneven:
        raise ValueError(cannot.one_level_only(dit.family))
    if dit.shows and not patches.shown:
        raise ValueError(cannot.shown_nothing(dit.family))


def check_blocks(dit: DiT, patches: LatentFacts) -> None:
    """Refuse to skip or cache blocks of a model whose blocks are another library's, and what ``check_asked`` refuses.

    Raises:
        ValueError: what it cannot do, and the way out.
    """
    from kineograph.nodes.networks.adapters import cannot

    if dit.family:
        raise ValueError(cannot.no_blocks(dit.family))
    check_asked(dit, patches)
