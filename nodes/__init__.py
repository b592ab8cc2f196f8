"""Typed doorways to plain functions; importing any loads no torch. ``MODULES`` lists what holds nodes and codecs."""

MODULES = (
    "text",
    "model",
    "sample",
    "video",
    "world",
    "train.data",
    "train.loss",
    "train.optimizer",
    "train.record",
    "codecs",
)
