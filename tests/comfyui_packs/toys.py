"""A pack as people write them for ComfyUI: plain classes, nothing of ComfyUI's imported."""

import asyncio
from pathlib import Path

CALLS = []


class Grain:
    """Grain on every frame."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "amount": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": "how much"}),
                "mode": (["add", "multiply"], {"default": "add"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFFFFFFFFFFFF}),
            },
            "optional": {"mask": ("MASK",), "note text": ("STRING", {"multiline": True})},
            "hidden": {"me": "UNIQUE_ID", "prompt": "PROMPT", "extra": "EXTRA_PNGINFO"},
        }

    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "grain")
    FUNCTION = "apply"
    CATEGORY = "toys"

    def apply(self, image, amount, mode, seed, me, prompt, extra, mask=None):
        import torch

        CALLS.append(("Grain", me, sorted(prompt), tuple(image.shape)))
        noise = amount * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
        image.add_(noise) if mode == "add" else image.mul_(1 + noise)  # as packs do: into what they were given
        if mask is not None:
            image = image * mask[..., None]
        return image, noise.mean(dim=-1).clamp(0, 1)


class DoubleLatent:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",)}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "go"

    def go(self, samples):
        return ({**samples, "samples": samples["samples"] * 2},)


class Numbers:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3, "min": 0, "max": 100})}}

    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "go"

    def go(self, count):
        CALLS.append(("Numbers", count))
        return (list(range(count)),)


class Add:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("INT", {"default": 0}), "b": ("INT", {"default": 0, "min": -10, "max": 10})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    def go(self, a, b):
        CALLS.append(("Add", a, b))
        return (a + b,)


class Total:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"items": ("*",)}}

    INPUT_IS_LIST = True
    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    def go(self, items):
        CALLS.append(("Total", tuple(items)))
        return (sum(items),)


class Show:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}

    RETURN_TYPES = ()
    FUNCTION = "go"
    OUTPUT_NODE = True

    def go(self, value):
        CALLS.append(("Show", value))
        return {"ui": {"text": [str(value)]}}


class ReadsFile:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"

    @classmethod
    def IS_CHANGED(cls, path):
        return Path(path).read_text()

    @classmethod
    def VALIDATE_INPUTS(cls, path):
        return True if path is None or Path(path).is_file() else f"There is no file {path}."

    def go(self, path):
        CALLS.append(("ReadsFile", path))
        return (Path(path).read_text(),)


class AlwaysNew:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def go(self):
        CALLS.append(("AlwaysNew",))
        return (len(CALLS),)


class Sleep:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 1}), "seconds": ("FLOAT", {"default": 0.1})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    @classmethod
    async def VALIDATE_INPUTS(cls, seconds):
        await asyncio.sleep(0)
        return seconds is None or seconds < 60 or "Nobody sleeps so long."

    async def go(self, value, seconds):
        await asyncio.sleep(seconds)
        return (value,)


class Choose:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"first": ("BOOLEAN", {"default": True})},
            "optional": {"a": ("INT", {"lazy": True, "min": 0}), "b": ("INT", {"lazy": True, "min": 0})},
        }

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    def check_lazy_status(self, first, a=None, b=None):
        wanted = "a" if first else "b"
        return [wanted] if (a if first else b) is None else []

    def go(self, first, a=None, b=None):
        return (a if first else b,)


class Twice:
    """Returns a graph: its image through Grain twice, or its number plus one."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "number": ("INT", {"default": 1})}}

    RETURN_TYPES = ("IMAGE", "INT", "STRING")
    FUNCTION = "go"

    def go(self, image, number):
        graph = {
            "one": {"class_type": "Grain", "inputs": {"image": image, "amount": 0.0, "mode": "add", "seed": 1}},
            "two": {"class_type": "Grain", "inputs": {"image": ["one", 0], "amount": 0.0, "mode": "add", "seed": 1}},
            "sum": {"class_type": "Add", "inputs": {"a": number, "b": 1}},
        }
        return {"result": (["two", 0], ["sum", 0], "plain"), "expand": graph}


class Endless:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 1})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    def go(self, number):
        graph = {"again": {"class_type": "Endless", "inputs": {"number": number + 1}}}
        return {"result": (["again", 0],), "expand": graph}


class Fails:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 1})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    def go(self, value):
        raise RuntimeError(f"{value} was one too many")


class NeedsTheEngine:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "hidden": {"prompt": "DYNPROMPT"}}

    RETURN_TYPES = ()
    FUNCTION = "go"

    def go(self, prompt): ...


class NoFunction:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ()


CLASSES = [Grain, DoubleLatent, Numbers, Add, Total, Show, ReadsFile, AlwaysNew, Sleep, Choose, Twice, Endless, Fails]
NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in [*CLASSES, NeedsTheEngine, NoFunction]}
NODE_DISPLAY_NAME_MAPPINGS = {"Grain": "Film grain"}
