"""Typed doorways to plain functions; importing any loads no torch. ``MODULES`` lists what holds nodes and codecs."""

MODULES = (
    "text",
    "model",
    "sample",
    "video",
    "world",
    "train.data",
    "train.clips",
    "train.streams",
    "train.mixed",
    "train.noise",
    "train.loss",
    "train.adversarial",
    "train.recipe",
    "train.optimizer",
    "train.passes",
    "train.ranks",
    "train.evaluate",
    "train.scaling",
    "train.record",
    "codecs",
)
