"""Images: their place or content in a table, folders of classes, and the pixels that a model reads.

The value of an image in a table is text: the path of its file, or its content as a `data:` URL where a data set holds
no files. Pillow decodes it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .tables.errors import DataError, RowError, first_line
from .tables.folders import split_of
from .tables.rows import Rows

if TYPE_CHECKING:
    import torch

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_INLINE = "data:application/octet-stream;base64,"
_CHANNELS = 3
_DIGEST = 16
_TOLERANCE = 1e-5
_STEP = 257
"""The values of 16 bits per value of 8 bits: 65,535 / 255."""
_OPAQUE = 255
_AT_MOST_16_BITS = ("PNG", "PPM")
"""The formats whose values have at most 16 bits, though Pillow keeps them in 32."""
_WIDE_VALUES = {"I": "32 bits", "F": "floating point"}
_RESCALED = "images of 16 bits per channel are rescaled to 8 bits"
_COMPOSED = "images with transparency are composed onto white"


def with_image_values(rows: Rows, column: str, folders: Sequence[Path]) -> Rows:
    """Return the rows with images as absolute paths, or as content.

    Args:
        rows: The rows of a split.
        column: The column of images: paths, bytes, or dictionaries of both, as datasets and Parquet files hold them.
        folders: The folders that relative paths may start from.

    Raises:
        DataError: There is no such column.
    """
    if column not in rows.columns:
        raise DataError(f"there is no column {column!r}", f"Use one of: {', '.join(rows.column_names)}.")
    return rows.with_column(column, [_value(value, folders) for value in rows[column]])


def _value(value: Any, folders: Sequence[Path]) -> Any:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return _INLINE + base64.b64encode(value).decode("ascii")
    if not isinstance(value, str) or value.startswith(_INLINE):
        return value
    found = next((path for folder in folders if (path := folder / value).is_file()), None)
    return value if found is None else str(found)


def image_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of the splits of a folder of images, each with one folder per class; empty if it is none."""
    inner = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
    )
    splits = {split: path for path in inner if (split := split_of(path.name)) and any(_classes_of(path))}
    if splits:
        return splits
    return {"train": folder} if _classes_of(folder) else {}


def read_image_folder(folder: Path) -> Rows:
    """Return the images of a folder with one folder per class: the columns are `image` and `label`."""
    found = [(str(path), name) for name, paths in _classes_of(folder).items() for path in paths]
    images, labels = zip(*found, strict=True) if found else ((), ())
    places = [f"{Path(path).parent.name}/{Path(path).name} of {folder.name}" for path in images]
    return Rows({"image": [*images], "label": [*labels]}, places)


def _classes_of(folder: Path) -> dict[str, list[Path]]:
    classes = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if paths := sorted(path for path in inner.iterdir() if path.suffix.lower() in ENDINGS):
            classes[inner.name] = paths
    return classes


def image_digest(value: Any) -> bytes:
    """Return a digest of the content of an image's file; of the value itself if it cannot be read."""
    try:
        content = _content(str(value))
    except OSError:
        content = str(value).encode()
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def image_text(value: Any) -> str:
    """Return a text for an image: the name of its file and its size."""
    width, height = open_image(value).size
    name = "image" if str(value).startswith(_INLINE) else Path(str(value)).name
    return f"{name}, {width} × {height} pixels"


def open_image(value: Any) -> Any:
    """Return an image of Pillow in RGB; see `read_image`."""
    return read_image(value)[0]


def read_image(value: Any) -> tuple[Any, tuple[str, ...]]:
    """Return an image of Pillow in RGB, and what was decided to make it so.

    Raises:
        RowError: It cannot be read, or its values have no known range.
        DataError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DataError("images need Pillow, which is not installed", "Run: pip install pillow") from error
    fix = "Correct the path, or remove the row."
    try:
        content = _content(str(value))
        if not content:
            raise RowError("the file of the image is empty", fix)
        image = Image.open(BytesIO(content))
        image.load()
    except UnidentifiedImageError as error:
        raise RowError("the image has no format that Pillow reads", fix) from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise RowError(f"the image cannot be read ({first_line(error)})", fix) from error
    return _in_rgb(image)


def _in_rgb(image: Any) -> tuple[Any, tuple[str, ...]]:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _AT_MOST_16_BITS):
        values = np.asarray(image, np.float64) / _STEP
        return Image.fromarray(np.round(values).astype(np.uint8)).convert("RGB"), (_RESCALED,)
    if image.mode in ("I", "F"):
        what = f"the image has values of {_WIDE_VALUES[image.mode]}, whose range is not known"
        raise RowError(what, "Save it with 8 or 16 bits per channel.")
    if not image.has_transparency_data:
        return image.convert("RGB"), ()
    image = image.convert("RGBA")
    if image.getextrema()[-1][0] == _OPAQUE:
        return image.convert("RGB"), ()
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB"), (_COMPOSED,)


def _content(value: str) -> bytes:
    if value.startswith(_INLINE):
        return base64.b64decode(value.removeprefix(_INLINE))
    return Path(value).read_bytes()


class ImageReader:
    """The image processor of a model, in the place of a tokenizer.

    Pixels are kept as the processor resizes them, in bytes, and scaled when a batch is made; pixels of a processor
    that does more are kept in fp32.

    Args:
        processor: The image processor.
        tokens: The number of tokens that the model reads of an image.
    """

    def __init__(self, processor: Any, tokens: int) -> None:
        self.processor, self.tokens = processor, tokens
        self.keeps_bytes = self._can_keep_bytes()

    @property
    def pixels_shape(self) -> tuple[int, ...]:
        """Channels, height and width of what the model reads."""
        return tuple(self._processed(_probe()).shape)

    def pixels(self, value: Any) -> NDArray[Any]:
        """Return the pixels of an image; see `read`."""
        return self.read(value)[0]

    def read(self, value: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
        """Return the pixels of an image, and what was decided to read it in RGB.

        Pixels have the shape [channels, height, width]: bytes before they are scaled, or fp32.

        Raises:
            RowError: The image cannot be read.
        """
        image, remarks = read_image(value)
        return (self._resized(image) if self.keeps_bytes else self._processed(image)), remarks

    def batch(self, pixels: Sequence[NDArray[Any]]) -> torch.Tensor:
        """Return the pixels of images as the model reads them, shape [n, channels, height, width], in fp32."""
        import torch

        values = np.stack(pixels)
        return torch.from_numpy(self._scaled(values) if self.keeps_bytes else values)

    def save_pretrained(self, folder: str) -> None:
        """Write the configuration of the processor into a folder."""
        self.processor.save_pretrained(folder)

    def digest(self) -> str:
        """Return a digest of what the processor does to an image."""
        pixels = np.round(self._processed(_probe()), 4)
        return hashlib.blake2b(pixels.tobytes(), digest_size=_DIGEST).hexdigest()

    def _processed(self, image: Any) -> NDArray[np.float32]:
        pixels = self.processor(image, return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, np.float32)

    def _resized(self, image: Any) -> NDArray[np.uint8]:
        plain = self.processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        return np.asarray(plain["pixel_values"][0]).astype(np.uint8)

    def _scaled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = pixels.astype(np.float32)
        if self.processor.do_rescale:
            scaled *= np.float32(self.processor.rescale_factor)
        if self.processor.do_normalize:
            mean, deviation = (
                np.asarray(each, np.float32).reshape(-1, 1, 1)
                for each in (self.processor.image_mean, self.processor.image_std)
            )
            scaled = (scaled - mean) / deviation
        return scaled

    def _can_keep_bytes(self) -> bool:
        try:
            difference = np.abs(self._scaled(self._resized(_probe())) - self._processed(_probe())).max()
        except (AttributeError, TypeError, ValueError):
            return False
        return bool(difference < _TOLERANCE)


@functools.cache
def _probe() -> Any:
    """Return an image of random pixels."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, _CHANNELS), dtype=np.uint8)
    return Image.fromarray(pixels)


def load_reader(name: str, **options: Any) -> ImageReader:
    """Load the image processor of a model.

    Args:
        name: The model's folder, or its name on the hub.
        options: Further arguments of `from_pretrained`, such as `revision`.

    Raises:
        DataError: The model has no image processor, or one for images of another size or number of channels.
    """
    try:
        import PIL  # noqa: F401 - the processor would fail with another message
    except ImportError as error:
        raise DataError("images need Pillow, which is not installed", "Run: pip install pillow") from error
    from transformers import AutoConfig, AutoImageProcessor

    config = AutoConfig.from_pretrained(name, **options)
    if not hasattr(config, "image_size"):
        raise DataError(f"{config.model_type} reads no images of a fixed size", "Choose a model such as ViT.")
    try:
        processor = AutoImageProcessor.from_pretrained(name, **options)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"there is no image processor that can be loaded ({first_line(error)})",
            "Save the processor into the model's folder: processor.save_pretrained(folder).",
        ) from error
    channels = getattr(config, "num_channels", _CHANNELS)
    if channels != _CHANNELS:
        raise DataError(f"the model reads {channels} channels per pixel", "Choose a model for images in RGB.")
    reader = ImageReader(processor, _token_count(config))
    side = config.image_size
    expected = (channels, *(side if isinstance(side, list | tuple) else (side, side)))
    if reader.pixels_shape != expected:
        raise DataError(
            f"the image processor makes pixels of {reader.pixels_shape}, and the model reads {expected}",
            "Save a processor with the model's image_size.",
        )
    return reader


def _token_count(config: Any) -> int:
    """Return the number of tokens of an image, with those that stand for the whole image."""
    import torch
    from transformers import AutoModel

    with torch.device("meta"):
        embeddings = AutoModel.from_config(config).embeddings
        height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        output = embeddings(torch.empty(1, config.num_channels, height, width))
    hidden = output[0] if isinstance(output, tuple) else output
    return int(hidden.shape[1])
