"""The nodes by calling them: identities, purity (every node twice), given cells bit-exact, training that learns."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kineograph import default_runtime
from kineograph.graph_runtime.node import node_type
from kineograph.graph_runtime.sockets import Stream
from kineograph.nodes import (
    any_model,
    block_cache,
    caption,
    edit,
    experts,
    fit,
    guidance,
    hand_over,
    judge,
    judge_content,
    load,
    lora,
    model,
    pictures,
    prompts,
    replacement,
    report,
    sample,
    save,
    schedules,
    sizes,
    solvers,
    splice,
    sweep,
    text,
    video,
    video_models,
    world,
)
from kineograph.nodes.sockets import Latent, SigmaStep, Video
from kineograph.nodes.train import (
    adversarial,
    clip_report,
    clips,
    data,
    encoded,
    evaluate,
    loss,
    mixed,
    noise,
    optimizer,
    passes,
    ranks,
    recipe,
    scaling,
    streams,
)

VAE = model.new_vae(channels=4, seed=1)


def stirred_dit():
    """A small DiT that says something: a new one says zero everywhere."""
    dit = model.start_dit(channels=4, width=32, depth=1, heads=2, seed=2)
    for parameter in dit.network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return dit


DIT = stirred_dit()
LORA = lora.start_lora(DIT, rank=2)
ENCODER = model.new_text_encoder(width=192, seed=3)
CLIPS = world.world_clips(batches=2, formats=["5x16x16:3", "1x16x16:2"], seed=4)
BATCH = CLIPS[0]
CLEAN = video.vae_encode(VAE, BATCH.video)
NOISE = sample.latent_noise(VAE, frames=5, height=16, width=16, seed=5)
TEXT = text.encode_text(ENCODER, "a red circle moves right")
NO_TEXT = text.encode_text(ENCODER)
PATCHES = sample.patchify(NOISE)
STEP = SigmaStep(0.8, 0.6)
CRITIC = adversarial.new_discriminator(width=4, depth=1)
CLEAN_ONE = video.vae_encode(VAE, Video(BATCH.video.frames[:1], BATCH.video.fps))
TAIL = splice.last_groups(CLEAN_ONE, 1)
OTHER = Video(BATCH.video.frames.flip(-1), BATCH.video.fps)


class Run:
    """A run that writes into a folder and remembers metrics."""

    provenance = "{}"

    def __init__(self, folder: Path) -> None:
        self.folder, self.metrics, self.files = folder, [], []

    def progress(self, done: int, total: int) -> None: ...

    def check_cancelled(self) -> None: ...

    def preview(self, value, done: int = 0) -> None: ...

    def note(self, reason: str) -> None: ...

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics.append((name, step, value))

    def output_path(self, relative: str) -> Path:
        (self.folder / relative).parent.mkdir(parents=True, exist_ok=True)
        return self.folder / relative

    def wrote(self, path: Path) -> None:
        self.files.append(path)


def clip_files(run) -> str:
    """A folder with a picture and a video, also as a shard."""
    import tarfile

    from kineograph.nodes.media import write_image, write_video

    write_image(run.folder / "picture.png", BATCH.video.frames[0, 0])
    write_video(run.folder / "video.mp4", BATCH.video.frames[0], fps=8)
    for name in ("picture", "video"):
        (run.folder / f"{name}.txt").write_text("a red circle")
    with tarfile.open(run.folder / "shard.tar", "w") as shard:
        for name in ("picture.png", "picture.txt", "video.mp4", "video.txt"):
            shard.add(run.folder / name, name)
    return str(run.folder)


def dataset(run):
    return clips.clip_folder(clip_files(run), run)


def state_of(thing):
    return optimizer.begin_training(thing)


def noise_pair(step: int = 0):
    return noise.add_noise(noise.draw_levels(CLEAN, noise.logit_normal_levels(), step=step), step=step)


def dit_loss(state, step: int = 0):
    pair = noise_pair(step=step)
    patches = sample.patchify(pair.noisy)
    captions = data.encode_captions(ENCODER, BATCH, step=step)
    predicted = sample.dit_velocity(optimizer.dit_in_training(state), patches, captions)
    return loss.flow_loss(sample.unpatchify(predicted), pair.target)


def small_vgg(folder: Path) -> str:
    """A file with the layers of a VGG-16, each of two channels."""
    from safetensors.torch import save_file

    made = torch.Generator().manual_seed(6)
    weights = {}
    for layer in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        weights[f"features.{layer}.weight"] = torch.randn(2, 3 if layer == 0 else 2, 3, 3, generator=made)
        weights[f"features.{layer}.bias"] = torch.zeros(2)
    save_file(weights, folder / "vgg.safetensors")
    return str(folder / "vgg.safetensors")


def posterior():
    return loss.vae_posterior(VAE, BATCH.video)


CALLS = {
    "scale_at": lambda run: (experts.scale_at, STEP),
    "load_video": lambda run: (load.load_video, f"{clip_files(run)}/video.mp4", run, 0.25, 0, 4.0, 8),
    "load_image": lambda run: (load.load_image, f"{clip_files(run)}/picture.png", 8),
    "resize_video": lambda run: (fit.resize_video, BATCH.video, 24, 0, "pad"),
    "crop_video": lambda run: (fit.crop_video, BATCH.video, 8, 8),
    "trim_video": lambda run: (fit.trim_video, BATCH.video, -3, 2),
    "resample_video": lambda run: (fit.resample_video, BATCH.video, 12.0, "blend"),
    "reverse_video": lambda run: (fit.reverse_video, BATCH.video),
    "repeat_video": lambda run: (fit.repeat_video, BATCH.video, 3),
    "concat_videos": lambda run: (fit.concat_videos, BATCH.video, OTHER),
    "fit_video": lambda run: (fit.fit_video, BATCH.video, VAE, 4, 20),
    "encode_text": lambda run: (text.encode_text, ENCODER, "a big blue box"),
    "expand_prompt": lambda run: (prompts.expand_prompt, "a red ball", 3),
    "caption_world": lambda run: (caption.caption_world, BATCH.video, "long", 3),
    "spread_frames": lambda run: (caption.spread_frames, dataset(run), 3),
    "clip_videos": lambda run: (caption.clip_videos, dataset(run)),
    "save_captions": lambda run: (caption.save_captions, dataset(run), Stream.of(["a picture", "a video"]), run),
    "save_text": lambda run: (prompts.save_text, "a red ball", run),
    "load_model": lambda run: (model.load_model,),
    "leave_out_padding": lambda run: (video_models.leave_out_padding, NOISE),
    "load_any_model": lambda run: (any_model.load_any_model,),
    "dit_patch": lambda run: (any_model.dit_patch, DIT),
    "start_lora": lambda run: (lora.start_lora, DIT, 2),
    "add_lora": lambda run: (lora.add_lora, DIT, LORA, 0.5),
    "save_lora": lambda run: (lora.save_lora, LORA, run),
    "cogvideox_levels": lambda run: (video_models.cogvideox_levels, 3.0),
    "cogvideox_scale": lambda run: (video_models.cogvideox_scale, STEP, noise.ddpm_levels(), 50),
    "load_vae": lambda run: (model.load_vae,),
    "load_text_encoder": lambda run: (model.load_text_encoder,),
    "start_dit": lambda run: (model.start_dit, "", 4, 32, 1, 2),
    "new_vae": lambda run: (model.new_vae, 4),
    "new_text_encoder": lambda run: (model.new_text_encoder,),
    "latent_noise": lambda run: (sample.latent_noise, VAE, 5, 16, 24),
    "shifted_sigmas": lambda run: (sample.shifted_sigmas, 7, 3.0),
    "patchify": lambda run: (sample.patchify, NOISE),
    "unpatchify": lambda run: (sample.unpatchify, PATCHES),
    "dit_velocity": lambda run: (sample.dit_velocity, DIT, PATCHES, TEXT, 0.7),
    "guided_velocity": lambda run: (sample.guided_velocity, DIT, PATCHES, TEXT, NO_TEXT, STEP),
    "packed_velocity": lambda run: (
        sample.packed_velocity,
        DIT,
        Stream.of([PATCHES, sample.patchify(CLEAN)]),
        Stream.of([TEXT, NO_TEXT]),
        0.7,
    ),
    "mixed_clips": lambda run: (mixed.mixed_clips, VAE, 2, 100, 1536, 5, 16, 32),
    "group_clips": lambda run: (mixed.group_clips, CLIPS, 1),
    "pass_seed": lambda run: (passes.pass_seed, 1, 2),
    "encoded_batches": lambda run: (encoded.encoded_batches, LATENTS, TEXTS, 3, 2, 1),
    "drop_text": lambda run: (encoded.drop_text, TEXTS[0], NO_TEXT, 0.5, 1, 2),
    "stream_item": lambda run: (streams.stream_item, Stream.of([1, 2, 3]), 1),
    "mean_loss": lambda run: (loss.mean_loss, Stream.of([loss.Loss(torch.tensor(1.0)), loss.Loss(torch.tensor(3.0))])),
    "euler_step": lambda run: (sample.euler_step, NOISE, NOISE, STEP),
    "guidance_pair": lambda run: (guidance.guidance_pair, DIT, PATCHES, TEXT, NO_TEXT, STEP),
    "skipped_velocity": lambda run: (guidance.skipped_velocity, DIT, PATCHES, TEXT, STEP, [0]),
    "add_guidance": lambda run: (guidance.add_guidance, PATCHES, PATCHES, OTHER_PATCHES),
    "rescale_guidance": lambda run: (guidance.rescale_guidance, PATCHES, OTHER_PATCHES),
    "cfg_zero_guidance": lambda run: (guidance.cfg_zero_guidance, PATCHES, OTHER_PATCHES, 1),
    "begin_momentum": lambda run: (guidance.begin_momentum,),
    "projected_guidance": lambda run: (
        guidance.projected_guidance,
        *(PATCHES, OTHER_PATCHES, PATCHES, STEP),
        guidance.GuidanceMomentum(PATCHES.tokens),
    ),
    "begin_cache": lambda run: (block_cache.begin_cache,),
    "cached_velocity": lambda run: (block_cache.cached_velocity, DIT, PATCHES, TEXT, STEP, CACHE),
    "begin_history": lambda run: (solvers.begin_history,),
    "predict_step": lambda run: (solvers.predict_step, NOISE, NOISE, STEP),
    "heun_step": lambda run: (solvers.heun_step, NOISE, NOISE, CLEAN_ONE, STEP),
    "dpmpp_2m_step": lambda run: (solvers.dpmpp_2m_step, NOISE, NOISE, STEP, HISTORY),
    "dpmpp_2m_sde_step": lambda run: (solvers.dpmpp_2m_sde_step, NOISE, NOISE, STEP, HISTORY, 1, 3),
    "unipc_step": lambda run: (solvers.unipc_step, NOISE, NOISE, STEP, HISTORY, 3),
    "ancestral_step": lambda run: (solvers.ancestral_step, NOISE, NOISE, STEP, 1),
    "karras_sigmas": lambda run: (schedules.karras_sigmas,),
    "linear_quadratic_sigmas": lambda run: (schedules.linear_quadratic_sigmas,),
    "ddim_sigmas": lambda run: (schedules.ddim_sigmas, noise.ddpm_levels()),
    "stretch_sigmas": lambda run: (schedules.stretch_sigmas, STEPS),
    "sigmas_from": lambda run: (schedules.sigmas_from, STEPS, 0.5),
    "strength_sigma": lambda run: (schedules.strength_sigma, STEPS),
    "model_sigmas": lambda run: (schedules.model_sigmas, DIT, CLEAN, 5),
    "token_shift": lambda run: (schedules.token_shift, CLEAN),
    "size_shift": lambda run: (schedules.size_shift, CLEAN),
    "vae_encode": lambda run: (video.vae_encode, VAE, BATCH.video),
    "vae_decode": lambda run: (video.vae_decode, VAE, NOISE),
    "join_videos": lambda run: (video.join_videos, BATCH.video, BATCH.video),
    "save_video": lambda run: (save.save_video, BATCH.video, run),
    "decode_to_file": lambda run: (save.decode_to_file, VAE, NOISE, run),
    "save_animation": lambda run: (save.save_animation, BATCH.video, run),
    "save_image": lambda run: (save.save_image, BATCH.video, run),
    "save_contact_sheet": lambda run: (save.save_contact_sheet, BATCH.video, run),
    "world_clips": lambda run: (world.world_clips, 2, ["5x16x16:3"], 1),
    "world_prompts": lambda run: (world.world_prompts,),
    "oracle_score": lambda run: (
        world.oracle_score,
        Stream.of([BATCH.video]),
        Stream.of(["a red circle moves up"] * 3),
        run,
    ),
    "videos_as_batch": lambda run: (world.videos_as_batch, Stream.of([BATCH.video, BATCH.video])),
    "join_scores": lambda run: (judge.join_scores, BATCH.video, [3], run, OTHER),
    "loop_scores": lambda run: (judge.loop_scores, BATCH.video, OTHER, run, BATCH.video),
    "identity_scores": lambda run: (judge.identity_scores, BATCH.video, run, OTHER),
    "framing_scores": lambda run: (judge.framing_scores, BATCH.video, run, OTHER),
    "permanence_scores": lambda run: (judge.permanence_scores, WALLS, run, WALLS),
    "caption_scores": lambda run: (judge_content.caption_scores, BATCH.video, BATCH, run),
    "edit_scores": lambda run: (
        judge_content.edit_scores,
        MANY.video,
        Stream.of([MANY.video]),
        Stream.of([0.5]),
        world.change_prompts(MANY.clips),
        run,
    ),
    "distance_scores": lambda run: (judge_content.distance_scores, MANY.video, MANY.video, run),
    "drift_scores": lambda run: (judge_content.drift_scores, MANY.video, MANY.clips, run, 5),
    "world_batch": lambda run: (world.world_batch, 3, 5, 16, 16),
    "change_prompts": lambda run: (world.change_prompts, MANY.clips, "shape"),
    "sweep": lambda run: (sweep.sweep, [0.5, 0.7]),
    "sweep_texts": lambda run: (sweep.sweep_texts, ["a", "b"]),
    "read_size": lambda run: (sweep.read_size, "5x16x16"),
    "report_section": lambda run: (report.report_section, "Clips", None, None, BATCH.video),
    "save_report": lambda run: (report.save_report, report.report_section("Clips", video=BATCH.video), run),
    "clip_video": lambda run: (data.clip_video, BATCH),
    "encode_captions": lambda run: (data.encode_captions, ENCODER, BATCH, 0.5, 1, 2),
    "logit_normal_levels": lambda run: (noise.logit_normal_levels, 0.5, 2.0, 3.0),
    "uniform_levels": lambda run: (noise.uniform_levels, 2.0),
    "ddpm_levels": lambda run: (noise.ddpm_levels, "cosine"),
    "draw_levels": lambda run: (noise.draw_levels, CLEAN, noise.uniform_levels(), 0.5, 1, 2),
    "given_frames": lambda run: (noise.given_frames, NOISE, 0.1, 0.2, 0.2, 0.2, 0.2, 0.1, 1, 2),
    "gaussian_prior": lambda run: (model.gaussian_prior, 1.0, "markov"),
    "latent_noises": lambda run: (sizes.latent_noises, VAE, ["5x16x24", "1x16x16"], 8.0, 3),
    "packed_guided_velocity": lambda run: (
        sizes.packed_guided_velocity,
        DIT,
        Stream.of([PATCHES, PATCHES]),
        TEXT,
        NO_TEXT,
        STEP,
    ),
    "give_video": lambda run: (edit.give_video, NOISE, VAE, Video(BATCH.video.frames[:1, :2], 8.0), 3),
    "give_latent": lambda run: (edit.give_latent, NOISE, splice.last_groups(CLEAN_ONE, 1), 1),
    "sdedit": lambda run: (edit.sdedit, NOISE, CLEAN_ONE, 0.4),
    "sdedit_frames": lambda run: (edit.sdedit_frames, NOISE, CLEAN_ONE, [0.0, 0.9]),
    "morph": lambda run: (edit.morph, NOISE, CLEAN_ONE, edit.sdedit(NOISE, NOISE), 0.8),
    "renoise_given": lambda run: (
        replacement.renoise_given,
        replace(DIT, one_level=True),
        edit.sdedit(NOISE, CLEAN_ONE),
        NOISE,
        STEP,
    ),
    "noise_again": lambda run: (replacement.noise_again, edit.sdedit(NOISE, CLEAN_ONE), STEP, 1, 2, 3),
    "turn_velocity": lambda run: (edit.turn_velocity, NOISE, CLEAN_ONE),
    "steady_noise": lambda run: (
        pictures.steady_noise,
        edit.give_video(NOISE, VAE, Video(BATCH.video.frames[:1, :1], 8.0)),
    ),
    "begin_sampling": lambda run: (edit.begin_sampling, edit.sdedit(NOISE, CLEAN_ONE)),
    "flow_edit_pair": lambda run: (edit.flow_edit_pair, NOISE, CLEAN_ONE, STEP, 1, 2),
    "flow_edit_step": lambda run: (edit.flow_edit_step, NOISE, NOISE, CLEAN_ONE, STEP),
    "paste_video": lambda run: (edit.paste_video, BATCH.video, Video(BATCH.video.frames[:1, :2], 8.0), 1),
    "roll_latent": lambda run: (splice.roll_latent, CLEAN, 1, 1),
    "close_loop": lambda run: (splice.close_loop, splice.last_groups(CLEAN, 1)),
    "last_groups": lambda run: (splice.last_groups, CLEAN, 1, True),
    "fresh_noise": lambda run: (hand_over.fresh_noise, CLEAN, 3),
    "sigmas_between": lambda run: (hand_over.sigmas_between, STEPS, 1, 3),
    "step_level": lambda run: (hand_over.step_level, STEP),
    "play_at": lambda run: (hand_over.play_at, BATCH.video, 12.0),
    "first_groups": lambda run: (splice.first_groups, splice.join_latents(TAIL, TAIL), 1),
    "join_latents": lambda run: (splice.join_latents, CLEAN_ONE, TAIL),
    "given_keyframes": lambda run: (noise.given_keyframes, CLEAN, VAE, BATCH.video, 1.0, 2, 1, 2),
    "add_noise": lambda run: (noise.add_noise, NOISE, 1, 2),
    "fit_shortcut": lambda run: (data.fit_shortcut, VAE, CLIPS),
    "measure_latents": lambda run: (data.measure_latents, VAE, CLIPS),
    "clip_folder": lambda run: (clips.clip_folder, clip_files(run), run),
    "clip_shards": lambda run: (clips.clip_shards, clip_files(run), run),
    "filter_clips": lambda run: (clips.filter_clips, dataset(run), 0.1, 9.0, 8, 1, 9),
    "filter_motion": lambda run: (clips.filter_motion, dataset(run), run, 0.001, 0.5),
    "cut_clips": lambda run: (clips.cut_clips, dataset(run), 5, 4.0, 0.5, 1),
    "resize_clips": lambda run: (clips.resize_clips, dataset(run), 16, 24),
    "keep_aspect": lambda run: (clips.keep_aspect, dataset(run), 256),
    "report_clips": lambda run: (clip_report.report_clips, dataset(run), run),
    "read_clips": lambda run: (streams.read_clips, dataset(run)),
    "clip_batches": lambda run: (streams.clip_batches, dataset(run), 3, 2, 1, 1),
    "shuffle_stream": lambda run: (streams.shuffle_stream, STEPS, 1, 12),
    "repeat_stream": lambda run: (streams.repeat_stream, STEPS, 12),
    "skip_stream": lambda run: (streams.skip_stream, STEPS, 2),
    "shard_stream": lambda run: (streams.shard_stream, STEPS, 1, 3),
    "flow_loss": lambda run: (loss.flow_loss, CLEAN, NOISE_LIKE_CLEAN),
    "noise_loss": lambda run: (loss.noise_loss, CLEAN, NOISE_LIKE_CLEAN),
    "clean_loss": lambda run: (loss.clean_loss, CLEAN, NOISE_LIKE_CLEAN),
    "edm_loss": lambda run: (loss.edm_loss, CLEAN, NOISE_LIKE_CLEAN, 0.5),
    "min_snr_loss": lambda run: (loss.min_snr_loss, CLEAN, NOISE_LIKE_CLEAN),
    "vae_posterior": lambda run: (loss.vae_posterior, VAE, BATCH.video),
    "sample_posterior": lambda run: (loss.sample_posterior, posterior(), 1, 2),
    "vae_reconstruct": lambda run: (loss.vae_reconstruct, VAE, CLEAN),
    "reconstruction_loss": lambda run: (loss.reconstruction_loss, BATCH.video, BATCH.video, posterior()),
    "kl_loss": lambda run: (loss.kl_loss, posterior()),
    "laplacian_loss": lambda run: (loss.laplacian_loss, OTHER, BATCH.video),
    "load_features": lambda run: (loss.load_features, small_vgg(run.folder)),
    "perceptual_loss": lambda run: (
        loss.perceptual_loss,
        OTHER,
        BATCH.video,
        loss.load_features(small_vgg(run.folder)),
    ),
    "add_loss": lambda run: (loss.add_loss, loss.kl_loss(posterior()), loss.kl_loss(posterior()), 0.5),
    "new_discriminator": lambda run: (adversarial.new_discriminator, 4),
    "discriminator_in_training": lambda run: (adversarial.discriminator_in_training, state_of(CRITIC)),
    "discriminator_loss": lambda run: (adversarial.discriminator_loss, CRITIC, BATCH.video, OTHER, 1.0),
    "caption_reader": lambda run: (loss.caption_reader, ENCODER),
    "reading_loss": lambda run: (loss.reading_loss, loss.caption_reader(ENCODER), BATCH),
    "begin_training": lambda run: (optimizer.begin_training, DIT),
    "dit_in_training": lambda run: (optimizer.dit_in_training, state_of(DIT)),
    "lora_in_training": lambda run: (optimizer.lora_in_training, state_of(LORA)),
    "vae_in_training": lambda run: (optimizer.vae_in_training, state_of(VAE)),
    "reader_in_training": lambda run: (optimizer.reader_in_training, state_of(loss.caption_reader(ENCODER))),
    "learning_rate": lambda run: (optimizer.learning_rate, 3, 10),
    "begin_average": lambda run: (optimizer.begin_average, state_of(DIT)),
    "trained_dit": lambda run: (optimizer.trained_dit, state_of(DIT), optimizer.begin_average(state_of(DIT))),
    "trained_lora": lambda run: (optimizer.trained_lora, state_of(LORA), optimizer.begin_average(state_of(LORA))),
    "trained_vae": lambda run: (optimizer.trained_vae, state_of(VAE)),
    "trained_text_encoder": lambda run: (optimizer.trained_text_encoder, state_of(loss.caption_reader(ENCODER))),
    "adamw": lambda run: (recipe.adamw, 0.8),
    "sgd": lambda run: (recipe.sgd, 0.8),
    "muon": lambda run: (recipe.muon, 0.8, 0.1, recipe.sgd()),
    "parameter_group": lambda run: (recipe.parameter_group, recipe.adamw(), "bias", 0.5, 0.0),
    "clip_gradients": lambda run: (optimizer.clip_gradients, optimizer.Gradients((torch.ones(3), torch.ones(2, 2)))),
    "zero_gradients": lambda run: (optimizer.zero_gradients, state_of(DIT)),
    "mean_gradients": lambda run: (optimizer.mean_gradients, optimizer.Gradients((torch.ones(3),)), 4),
    "repeat": lambda run: (passes.repeat, 3),
    "every": lambda run: (passes.every, 9, 5),
    "batch_part": lambda run: (passes.batch_part, BATCH, 1, 3),
    "rank_share": lambda run: (ranks.rank_share, BATCH),
    "rank_gather": lambda run: (ranks.rank_gather, BATCH),
    "rank_number": lambda run: (ranks.rank_number,),
    "rank_places": lambda run: (ranks.rank_places, Stream.of([BATCH, BATCH]), VAE),
    "rank_loss": lambda run: (ranks.rank_loss, loss.Loss(torch.tensor(2.0), torch.tensor(5))),
    "numbered_path": lambda run: (passes.numbered_path, 500),
    "held_out_loss": lambda run: (evaluate.held_out_loss, DIT, CLEAN, TEXT, run),
    "word_gap": lambda run: (evaluate.word_gap, DIT, CLEAN, TEXT, NO_TEXT, run),
    "other_captions": lambda run: (evaluate.other_captions, BATCH),
    "scaling_run": lambda run: (scaling.scaling_run, 1, [32, 64], [1.0, 4.0], 100, 1),
    "scaling_curve": lambda run: (scaling.scaling_curve, Stream.of([1.0, 0.5]), Stream.of([1.0, 4.0]), run),
    "record_number": lambda run: (_record_number, 3.5, run),
    "record_loss": lambda run: (_record, dit_loss(state_of(DIT)), run),
    "save_model": lambda run: (_save_model, DIT, run),
    "save_checkpoint": lambda run: (_save_checkpoint, run),
}
OVERWRITE = {"add_gradients", "adversarial_loss", "apply_gradients", "average_weights", "gradients"}
"""Nodes that declare what they overwrite, or need history: they have tests of their own."""
OPTIONAL = {
    "clip_table",
    "load_language_model",
    "expand_prompt_with_model",
    "load_caption_model",
    "caption_clips_with_model",
    "apply_lora",
    "load_video_model",
    "load_video_dit",
    "load_video_vae",
    "load_video_text_encoder",
    "load_image_encoder",
    "show_given_frames",
    "show_control",
    "encode_text_with_picture",
    "show_reference",
    "join_experts",
    "embedded_guidance",
}
"""Nodes that need a library of an extra, or files of others: they have tests of their own."""
MANY = world.world_batch(8, 5, 16, 16)
WALLS = world.world_batch(2, 17, 32, 32, path="wall").video
STEPS = sample.shifted_sigmas(7)
OTHER_PATCHES = sample.patchify(sample.latent_noise(VAE, frames=5, height=16, width=16, seed=6))
CACHE = block_cache.cached_velocity(DIT, OTHER_PATCHES, TEXT, STEP, block_cache.begin_cache()).cache
HISTORY = solvers.dpmpp_2m_step(NOISE, NOISE, SigmaStep(0.9, 0.8), solvers.begin_history()).history
LATENTS, TEXTS = Stream.of([CLEAN_ONE, CLEAN_ONE]), Stream.of([TEXT, NO_TEXT])
NOISE_LIKE_CLEAN = noise_pair().target


def _record(value, run):
    from kineograph.nodes.train.record import record_loss

    return record_loss(value, run)


def _record_number(value, run):
    from kineograph.nodes.train.record import record_number

    return record_number(value, run)


def _save_model(thing, run):
    from kineograph.nodes.train.record import save_model

    return save_model(thing, run)


def _save_checkpoint(run):
    from kineograph.nodes.train.record import save_checkpoint

    state = state_of(DIT)
    return save_checkpoint(state, optimizer.begin_average(state), run, step=0, every=1)


def flat(value) -> list:
    """Every tensor and number in a value, in order."""
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    if isinstance(value, nn.Module):
        return [tensor.clone() for tensor in value.state_dict().values()]
    if isinstance(value, dict):
        return [part for key in sorted(value) for part in flat(value[key])]
    if isinstance(value, (tuple, list, Stream)):
        return [part for each in value for part in flat(each)]
    if is_dataclass(value):
        return [part for field in fields(value) for part in flat(getattr(value, field.name))]
    return [value] if isinstance(value, (int, float, str)) else []


def same(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(first, second, strict=True)
    )


def test_every_built_in_node_is_in_the_purity_table() -> None:
    names = {kind.name for kind in default_runtime().registry if not kind.pack}
    assert names == set(CALLS) | OVERWRITE | OPTIONAL


@pytest.mark.parametrize("name", CALLS)
@torch.no_grad()
def test_a_node_gives_the_same_twice_and_changes_nothing_it_was_given(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    call, *given = CALLS[name](run)
    before = copy.deepcopy(flat([each for each in given if each is not run]))
    first = flat(call(*given))
    assert same(flat([each for each in given if each is not run]), before)
    assert same(flat(call(*given)), first)


def test_every_built_in_node_documents_itself_and_each_input() -> None:
    for kind in default_runtime().registry:
        assert kind.doc, kind.id
        missing = [port.name for port in kind.inputs.values() if not port.doc]
        assert not missing, f"{kind.id} says nothing of {missing}"


def test_patches_join_to_the_latent_they_were_cut_from() -> None:
    joined = sample.unpatchify(sample.patchify(NOISE, time=1, height=2, width=2))
    assert torch.equal(joined.x, NOISE.x)


def test_given_cells_keep_their_bits_through_the_whole_sampling() -> None:
    mask = torch.ones_like(NOISE.mask)
    mask[:, :, 0] = 0
    given = CLEAN.x[:1]
    latent = Latent(torch.where(mask == 0, given, NOISE.x), given, mask, 8.0, NOISE.spec)
    for step in sample.shifted_sigmas(steps=5, shift=3.0):
        patches = sample.patchify(latent)
        velocity = sample.guided_velocity(DIT, patches, TEXT, NO_TEXT, step)
        latent = sample.euler_step(latent, sample.unpatchify(velocity), step)
    assert torch.equal(latent.x[:, :, 0], given[:, :, 0])
    assert not torch.equal(latent.x[:, :, 1], NOISE.x[:, :, 1])


def test_guidance_of_scale_one_is_the_velocity_with_text() -> None:
    unasked = replace(NO_TEXT, tokens=NO_TEXT.tokens * float("nan"))  # what the model says of it would be refused
    guided = sample.guided_velocity(DIT, PATCHES, TEXT, unasked, STEP, scale=1.0)
    plain = sample.dit_velocity(DIT, PATCHES, TEXT, sigma=STEP.sigma)
    assert torch.equal(guided.tokens, plain.tokens)
    nearly = sample.guided_velocity(DIT, PATCHES, TEXT, NO_TEXT, STEP, scale=1 + 1e-6)
    torch.testing.assert_close(guided.tokens, nearly.tokens, atol=1e-5, rtol=1e-5)
    more = sample.guided_velocity(DIT, PATCHES, TEXT, NO_TEXT, STEP, scale=5.0)
    assert not torch.allclose(more.tokens, plain.tokens, atol=1e-3)


def test_sizes_that_the_vae_cannot_have_are_refused_with_the_nearest_that_it_can() -> None:
    with pytest.raises(ValueError, match="nearest is 17"):
        sample.latent_noise(VAE, frames=18)
    with pytest.raises(ValueError, match=r"height = 60 .* nearest is 64"):
        sample.latent_noise(VAE, height=60)


def test_patches_of_another_size_than_the_dit_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="change patchify"):
        sample.dit_velocity(DIT, sample.patchify(NOISE, height=2, width=2), TEXT)


def test_a_training_step_changes_its_own_copy_and_lowers_the_loss(tmp_path: Path) -> None:
    before = copy.deepcopy(flat(DIT))
    with torch.enable_grad():
        state = state_of(DIT)
        first = dit_loss(state).value.item()
        for _ in range(30):
            found = optimizer.gradients(dit_loss(state), state)
            with torch.no_grad():
                state = optimizer.apply_gradients(state, found, Run(tmp_path), lr=1e-2)
    assert dit_loss(state).value.item() < 0.8 * first
    assert same(flat(DIT), before)
    assert all(parameter.grad is None for parameter in state.model.network.parameters())


def test_a_running_average_begins_at_the_weights_and_follows_them() -> None:
    state = state_of(DIT)
    average = optimizer.begin_average(state)
    assert same(flat(average.values), flat(dict(state.model.network.state_dict())))
    with torch.no_grad():
        state.model.network.token_in.weight.add_(1.0)
    followed = optimizer.average_weights(average, state, step=10_000, decay=0.9)
    gap = state.model.network.token_in.weight - followed.values["token_in.weight"]
    torch.testing.assert_close(gap, torch.full_like(gap, 0.9))


def test_levels_of_given_frames_are_zero_and_take_no_part_in_the_loss() -> None:
    drawn = noise.draw_levels(CLEAN, noise.uniform_levels())
    pair = noise.add_noise(noise.given_frames(drawn, prefix=0.5, suffix=0.5, first=0.0, both=0.0))
    levels = pair.noisy.mask
    assert (levels == 0).any()
    assert (levels > 0).any()
    frozen = (levels == 0).expand_as(CLEAN.x)
    assert torch.equal(pair.noisy.x[frozen], CLEAN.x[frozen])
    wrong_where_given = pair.target.x + frozen
    exact = loss.flow_loss(Latent(wrong_where_given, CLEAN.x, levels, 8.0, CLEAN.spec), pair.target)
    assert float(exact.value) == 0.0


def test_a_saved_model_loads_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for thing in (DIT, VAE, ENCODER):
        _save_model(thing, run)
    loaded = model.load_model(str(tmp_path / "model"))
    half = [tensor.half().float() if tensor.is_floating_point() else tensor for tensor in flat(DIT.network)]
    assert same(flat(loaded.dit.network), half)
    assert loaded.vae.spec == VAE.spec
    with pytest.raises(ValueError, match=r"no dit of a model 'nowhere'.*flipbook"):
        model.load_model("nowhere")


def test_a_file_of_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    _save_model(VAE, run)
    (tmp_path / "model" / "vae.safetensors").rename(tmp_path / "model" / "dit.safetensors")
    with pytest.raises(ValueError, match="holds a vae, a dit is needed"):
        model.start_dit(start=str(tmp_path / "model"))


def test_an_edited_model_file_changes_the_key(tmp_path: Path) -> None:
    run = Run(tmp_path)
    _save_model(VAE, run)
    name = str(tmp_path / "model")
    before = model.vae_digest(name)
    _save_model(model.new_vae(channels=4, seed=99), run)
    assert model.vae_digest(name) != before
    assert node_type(model.load_vae).fingerprint is model.vae_digest


def test_the_oracle_reads_the_worlds_own_clips_right(tmp_path: Path) -> None:
    from kineograph.nodes.networks.captions import GRID, prompt_labels
    from kineograph.nodes.networks.world import render, sample_scenes

    prompts = [prompt for prompt in GRID if prompt.held_out]
    scenes = sample_scenes(3, range(len(prompts)), 17, 8.0, 64, 64, given=prompt_labels(prompts))
    frames = render(scenes, 17, 64, 64, 8.0)
    videos = Stream.of([Video(clip[None], 8.0) for clip in frames])
    score = world.oracle_score(videos, Stream.of([prompt.text for prompt in prompts]), Run(tmp_path))
    assert score.everything == 1.0
