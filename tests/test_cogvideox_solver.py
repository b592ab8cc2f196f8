"""CogVideoX's own solver and guidance scale against diffusers' pipeline: tiny random weights in float32."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", reason="needs pip install 'kineograph[models]'")
pytest.importorskip("transformers", reason="needs pip install 'kineograph[models]'")
import tiny_families
from diffusers import CogVideoXDPMScheduler
from diffusers.schedulers import scheduling_dpm_cogvideox

from kineograph.nodes import sample, schedules, solvers, text, video_models
from kineograph.nodes.networks.adapters.cogvideox import dynamic_scale
from kineograph.nodes.sockets import SigmaStep
from kineograph.nodes.train.data import step_generator

pytestmark = pytest.mark.usefixtures("no_gradients")
WORDS, NOT = "a red circle", "blurred"
STEPS, SCALE, SEED = 5, 6.0, 7
ROTARY = {"use_rotary_positional_embeddings": True, "attention_head_dim": 16, "num_attention_heads": 2}


class GivenNoise(CogVideoXDPMScheduler):
    """diffusers' own, which is given the noise that our node draws for a step, with frames before channels."""

    def step(self, output, old, timestep, back, sample, **given):
        index = self.timesteps.tolist().index(int(timestep))
        frames, channels = sample.shape[1:3]
        ours = torch.randn(
            1, channels, frames, *sample.shape[3:], generator=step_generator(SEED, index, stream=7)
        ).transpose(1, 2)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scheduling_dpm_cogvideox, "randn_tensor", lambda *_, **__: ours)
            return super().step(output, old, timestep, back, sample, **given)


@pytest.fixture(scope="module")
def pipeline():
    made = tiny_families.cogvideox_pipeline(1.0, **ROTARY)
    made.scheduler = GivenNoise.from_config(made.scheduler.config)
    return made


@pytest.fixture(scope="module")
def model(pipeline, tmp_path_factory):
    folder = tiny_families.saved(pipeline, tmp_path_factory.mktemp("cog") / "CogVideoX-5b")
    return video_models.load_video_model(folder, dtype="float32")


@pytest.mark.parametrize("dynamic", [False, True])
def test_5b_with_its_own_solver_is_that_of_the_pipeline(dynamic, pipeline, model):
    latent = noise = sample.latent_noise(model.vae, frames=9, height=32, width=32, fps=8.0, seed=3)
    levels, history = video_models.cogvideox_levels(1.0), solvers.begin_history()
    shown, not_shown = (text.encode_text(model.text_encoder, words) for words in (WORDS, NOT))
    for index, step in enumerate(schedules.ddim_sigmas(levels, STEPS)):
        scale = video_models.cogvideox_scale(step, levels, STEPS, SCALE) if dynamic else SCALE
        patches = sample.patchify(latent, 1, 2, 2)
        velocity = sample.unpatchify(sample.guided_velocity(model.dit, patches, shown, not_shown, step, scale))
        latent, history = solvers.dpmpp_2m_sde_step(latent, velocity, step, history, index, SEED)
    given = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    given |= {"prompt": WORDS, "negative_prompt": NOT, "latents": noise.x.transpose(1, 2), "output_type": "latent"}
    reference = pipeline(**given, use_dynamic_cfg=dynamic).frames
    assert (latent.x.transpose(1, 2) - reference).abs().max() < 1e-5


def test_the_first_step_is_ancestral_and_noise_depends_on_seed_and_pass(model):
    """Of order 1 the solver is DDPM's ancestral step, which is another node."""
    latent = sample.latent_noise(model.vae, frames=9, height=32, width=32, seed=3)
    velocity = sample.latent_noise(model.vae, frames=9, height=32, width=32, seed=4)
    step, history = SigmaStep(0.8, 0.6), solvers.begin_history()
    others = (0, 1), (1, 1), (0, 2)
    taken = [solvers.dpmpp_2m_sde_step(latent, velocity, step, history, *at).latent.x for at in others]
    same = solvers.ancestral_step(latent, velocity, step, 0, 1.0, "ddpm", 1)
    assert (taken[0] - same.x).abs().max() < 1e-5
    assert all((taken[0] - other).abs().max() > 0.1 for other in taken[1:])


def test_the_scale_stays_in_its_bounds_and_rests_at_the_end():
    scales = [dynamic_scale(timestep, 50, 6.0) for timestep in range(999, -1, -20)]
    assert all(1 <= scale <= 7 for scale in scales)
    assert max(scales) > 6.5
    assert scales[-3:] == pytest.approx([1.0, 1.0, 1.12], abs=0.02)
