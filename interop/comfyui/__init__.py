"""ComfyUI's public formats: its workflow files, its node packs, its HTTP interface. Nothing of its code is in here."""

MODULES = ("lists", "expansion")
"""What holds nodes that graphs in ComfyUI's shape need."""
