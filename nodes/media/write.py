"""Videos and pictures as files, written through FFmpeg (`av`): knows no graph and no network. `decode` reads them.

H.264 keeps one colour for 2 x 2 pixels (yuv420p, the only kind that plays everywhere). PSNR at crf 12, after a round
trip, of a 64 x 64 clip of saturated discs: 28 dB as it is, 49 dB with every pixel drawn 2 x 2, 50 dB with 4 x 4; by
swscale's own conversion 28, 44 and 49. So colours are converted here, and `upscale` is there for tiny clips.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineograph.files import write_whole
from kineograph.nodes.media.chunks import with_png_text
from kineograph.nodes.media.provenance import PROVENANCE_KEY, check_length

if TYPE_CHECKING:
    import av
    from torch import Tensor

BT709 = 1
"""FFmpeg's number for BT.709, as matrix, primaries and transfer alike."""
MOST_PIXELS = 16383
"""Of a side; WebP has no more."""
LIMITED_RANGE = 1
"""FFmpeg's number for the range of television: luma 16 to 235, colour 16 to 240."""


def write_video(
    path: str | os.PathLike[str],
    frames: Tensor | Iterable[Tensor],
    fps: float,
    *,
    upscale: int = 1,
    crf: int = 12,
    provenance: str | None = None,
) -> None:
    """Write an H.264 MP4 that plays everywhere. The same frames give the same bytes; a failure leaves no file.

    Args:
        path: the file; its folder must exist. A file of that name is replaced once the new one is whole.
        frames: (T, 3, H, W) float in [0, 1], or (T, H, W, 3) uint8; or pieces of such, in order, of which one is held.
        fps: frames per second, above 0 and at most 1000.
        upscale: every pixel becomes upscale x upscale pixels, 1 to 64.
        crf: x264's constant quality, 0 (nearly lossless) to 51.
        provenance: text to keep in the file, such as the workflow that made it; at most 16 MB as UTF-8.

    Raises:
        ValueError: frames, fps or sizes that no MP4 can hold, or a folder that is not there.
        OSError: the file could not be written.
    """
    import torch

    if not (0 < fps <= 1000):
        raise ValueError(f"fps is {fps}; a video needs more than 0 and at most 1000 frames per second.")
    check_length(provenance)
    pieces = [frames] if isinstance(frames, torch.Tensor) else frames
    write_whole(Path(path), _encode(_checked(pieces, upscale), fps, upscale, crf, provenance))


def write_image(path: str | os.PathLike[str], frame: Tensor, *, provenance: str | None = None) -> None:
    """Write a PNG.

    Args:
        path: the file; its folder must exist.
        frame: (3, H, W) float in [0, 1], or (H, W, 3) uint8.
        provenance: text to keep in the file, such as the workflow that made it; at most 16 MB as UTF-8.

    Raises:
        ValueError: no such frame, or a folder that is not there.
        OSError: the file could not be written.
    """
    check_length(provenance)
    png = image_bytes(frame)
    write_whole(Path(path), png if provenance is None else with_png_text(png, provenance))


def image_bytes(frame: Tensor) -> bytes:
    """A PNG as bytes.

    Args:
        frame: (3, H, W) float in [0, 1], or (H, W, 3) uint8.

    Raises:
        ValueError: no such frame.
    """
    import av

    if frame.ndim != 3:
        raise ValueError(f"A picture is (3, H, W) float or (H, W, 3) uint8, not {_kind(frame)}.")
    rgb_HWC = next(as_bytes(frame[None]))
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = rgb_HWC.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "rgb24", Fraction(1), 1
    picture = av.VideoFrame.from_ndarray(rgb_HWC.contiguous().numpy(), format="rgb24")
    picture.pts, picture.time_base = 0, Fraction(1)
    packets = [*encoder.encode(picture), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def contact_sheet(videos: Sequence[Tensor], columns: int = 8, gap: int = 2, background: float = 1.0) -> Tensor:
    """Clips as one picture: a row per clip, evenly spaced frames from the first to the last as columns.

    Args:
        videos: (T, 3, H, W) float in [0, 1] each; lengths and sizes may differ.
        columns: most frames of a clip that are shown, at least 1.
        gap: pixels between frames.
        background: brightness of gaps and of what is left of cells.

    Returns:
        (3, H', W') float in [0, 1].
    """
    import torch

    if not videos or columns < 1:
        raise ValueError(f"A contact sheet needs a clip and a column; it got {len(videos)} and {columns}.")
    for video in videos:
        if video.ndim != 4 or video.shape[1] != 3 or not video.is_floating_point() or not len(video):
            raise ValueError(f"A clip of a contact sheet is (T, 3, H, W) float, not {_kind(video)}.")
    columns = min(columns, max(len(video) for video in videos))
    height, width = (max(video.shape[side] for video in videos) for side in (2, 3))
    sheet_CHW = torch.full((3, len(videos) * (height + gap) - gap, columns * (width + gap) - gap), background)
    for row, video in enumerate(videos):
        shown = min(columns, len(video))
        for column in range(shown):
            frame_CHW = video[round(column * (len(video) - 1) / max(shown - 1, 1))]
            top, left = row * (height + gap), column * (width + gap)
            sheet_CHW[:, top : top + frame_CHW.shape[1], left : left + frame_CHW.shape[2]] = frame_CHW
    return sheet_CHW.clamp(0, 1)


# Writing


def _kind(frames: Tensor) -> str:
    return f"{tuple(frames.shape)} {str(frames.dtype).removeprefix('torch.')}"


def check_frames(frames: Tensor, upscale: int = 1) -> None:
    """Refuse what is no video.

    Raises:
        ValueError: with the shape that is needed.
    """
    import torch

    is_bytes = frames.dtype == torch.uint8
    if frames.ndim != 4 or frames.shape[-1 if is_bytes else 1] != 3 or not (is_bytes or frames.is_floating_point()):
        raise ValueError(f"A video is (T, 3, H, W) float in [0, 1] or (T, H, W, 3) uint8, not {_kind(frames)}.")
    if not 1 <= upscale <= 64:
        raise ValueError(f"upscale is {upscale}; it may be 1 to 64.")
    sides = frames.shape[1:3] if is_bytes else frames.shape[2:]
    height, width = (side * upscale for side in sides)
    if not frames.numel() or max(height, width) > MOST_PIXELS:
        raise ValueError(
            f"{len(frames)} frames of {width} x {height} pixels are no video; sides may be 1 to {MOST_PIXELS}. "
            "Make it smaller with resize_video."
        )


def _check_even(frames: Tensor, upscale: int) -> None:
    """H.264 as it plays everywhere has sides that are even."""
    import torch

    sides = frames.shape[1:3] if frames.dtype == torch.uint8 else frames.shape[2:]
    height, width = (side * upscale for side in sides)
    if height % 2 or width % 2:
        raise ValueError(
            f"Frames of {width} x {height} pixels do not fit an H.264 video, whose sides are even. "
            f"Change the size to {width + width % 2} x {height + height % 2} with resize_video, "
            f"or set upscale to {2 * upscale}."
        )


def _checked(pieces: Iterable[Tensor], upscale: int) -> Iterator[Tensor]:
    """Each frame of each piece as bytes."""
    count = 0
    for piece in pieces:
        check_frames(piece, upscale)
        _check_even(piece, upscale)
        yield from as_bytes(piece, first=count)
        count += len(piece)
        del piece  # before the next one is made


def as_bytes(frames: Tensor, first: int = 0) -> Iterator[Tensor]:
    """Each frame as (H, W, 3) uint8 on the CPU, one at a time; ``first`` is the number of the first one."""
    import torch

    if frames.shape[-1 if frames.dtype == torch.uint8 else 1] != 3:
        raise ValueError(f"A picture is (3, H, W) float or (H, W, 3) uint8, not {_kind(frames[0])}.")
    for index, frame in enumerate(frames.detach(), first):
        if frame.dtype == torch.uint8:
            yield frame.cpu()
            continue
        frame_CHW = frame.to("cpu", torch.float32)
        if not torch.isfinite(frame_CHW).all():
            raise ValueError(
                f"Frame {index} holds values that are no numbers (NaN or infinite); what made it diverged."
            )
        yield frame_CHW.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)


def _encode(frames: Iterable[Tensor], fps: float, upscale: int, crf: int, provenance: str | None) -> bytes:
    """The MP4 as bytes. It is muxed in memory, so that a full disk shows where we write, and nowhere else."""
    import av

    buffer = io.BytesIO()
    container = av.open(
        buffer,
        "w",
        format="mp4",
        container_options={"movflags": "use_metadata_tags+faststart"},
        io_open=lambda _url, _flags, _options: _Window(buffer),  # faststart reads its own output once more
    )
    with container:
        if provenance is not None:
            # `comment` too: it survives programs that copy the streams into a new file, our own key does not
            container.metadata[PROVENANCE_KEY] = container.metadata["comment"] = provenance
        rate = Fraction(fps).limit_denominator(1001)
        # x264's macroblock tree reads beyond small frames with AVX-512: the same 64 x 64 clip came out in six kinds
        options = {"crf": str(crf), "preset": "medium", "x264-params": "mbtree=0:chromaloc=1"}
        stream: Any = container.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.thread_count = 1  # x264's bytes depend on the number of threads
        context.pix_fmt, context.color_range = "yuv420p", LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for index, rgb_HWC in enumerate(frames):
            picture = _to_yuv420p(rgb_HWC.repeat_interleave(upscale, 0).repeat_interleave(upscale, 1))
            if index == 0:
                context.width, context.height = picture.width, picture.height
            picture.pts, picture.time_base, picture.duration = index, 1 / rate, 1
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class _Window:
    """A second reader of a buffer that is still being written."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer, self._place = buffer, 0

    def read(self, size: int) -> bytes:
        with self._buffer.getbuffer() as view:
            data = bytes(view[self._place : self._place + size])
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._buffer.getbuffer() as view:
            start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(view)}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        """Nothing to close: the buffer belongs to the writer."""


def _to_yuv420p(rgb_HWC: Tensor) -> av.VideoFrame:
    """BT.709 in limited range, each 2 x 2 pixels sharing the mean of their colours (ITU-R BT.709-6, part 3)."""
    import av
    import torch

    red, green, blue = rgb_HWC.to(torch.float32).div(255).unbind(-1)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + 219 * luma]
    for colour, span in ((blue, 1.8556), (red, 1.5748)):
        halved = ((colour - luma) / span).unfold(0, 2, 2).unfold(1, 2, 2).mean((-2, -1))
        planes.append(128 + 224 * halved)
    height, width = luma.shape
    picture = av.VideoFrame(width, height, "yuv420p")
    picture.colorspace = picture.color_primaries = picture.color_trc = BT709
    picture.color_range = LIMITED_RANGE
    for target, values in zip(picture.planes, planes, strict=True):
        rows = torch.zeros(values.shape[0], target.line_size, dtype=torch.uint8)
        rows[:, : values.shape[1]] = values.round().clamp(0, 255)
        target.update(rows.numpy().tobytes())
    return picture
