"""Videos and pictures as files: written (`write`, `animation`), read (`decode`), and what they say of their making
(`provenance`). Knows no graph and no network; importing it loads no decoder.
"""

from kineograph.nodes.media.write import contact_sheet, image_bytes, write_image, write_video

__all__ = ["contact_sheet", "image_bytes", "write_image", "write_video"]
