"""ComfyUI's public formats: its workflow files, its node packs, its HTTP interface. Nothing of its code is in here."""
