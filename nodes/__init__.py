"""Typed doorways to plain functions; importing any of them loads no torch. ``MODULES`` lists what holds nodes."""

MODULES = (
    "text",
    "model",
    "sample",
    "video",
    "world",
    "train.data",
    "train.loss",
    "train.recipe",
    "train.optimizer",
    "train.passes",
    "train.evaluate",
    "train.scaling",
    "train.record",
)
