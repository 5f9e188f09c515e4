"""Images: folders, columns, pixels, repeats and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from tests.support.base_models import write_model
from trials.data.preview import preview_examples
from trials.data.task_data import load_task
from trials.data.tokenizers import load_image_reader
from trials.packing.prefix_store import example_key
from trials.reading.images import open_image, read_image, with_image_values
from trials.reading.splits import read_source
from trials.reading.tables.errors import RowError
from trials.reading.tables.rows import Rows
from trials.tasks.specs import ModelSpec, TaskSpec

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def model(tiny_model: Any) -> ModelSpec:
    return ModelSpec(name=str(tiny_model("vit")))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images of digits, one folder per class."""
    from sklearn.datasets import load_digits

    folder, found = tmp_path_factory.mktemp("digits"), load_digits(n_class=3)
    for number, (pixels, target) in enumerate(zip(found.images[:60], found.target[:60], strict=True)):
        (folder / str(target)).mkdir(exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder / str(target) / f"{number}.png")
    return folder


def task(**fields: Any) -> TaskSpec:
    return TaskSpec(type="image-classification", image="image", label="label", **fields)


def test_a_folder_with_a_folder_per_class_is_carved_by_class(digits: Path, model: ModelSpec) -> None:
    spec = task(train=str(digits))
    data = load_task(spec, model)
    assert data.classes == ("0", "1", "2")
    assert [len(data.splits[name]) for name in ("train", "validation", "test")] == [42, 9, 9]
    assert {tuple(np.bincount([e["labels"] for e in data.splits["test"]]))} == {(3, 3, 3)}
    assert data.lengths("train").tolist() == [5] * 42  # four patches and the token of the class
    assert any("kept in memory as 3 × 8 × 8 uint8" in note for note in data.notes)
    shown = preview_examples(data, spec, 1)[0]
    assert "8 × 8 pixels, read as 3 × 8 × 8" in shown.spans[0].text
    assert shown.label == data.raw["train"]["label"][0]


def test_folders_of_splits_are_splits(digits: Path, model: ModelSpec, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(digits, tmp_path / split)
    data = load_task(task(train=str(tmp_path)), model)
    assert len(data.splits["validation"]) == 60
    assert any("are also in train" in warning for warning in data.warnings)  # the same files


def test_pixels_are_those_of_the_processor(digits: Path, model: ModelSpec) -> None:
    from transformers import AutoImageProcessor

    reader, processor = load_image_reader(model), AutoImageProcessor.from_pretrained(model.name)
    paths = sorted(map(str, (digits / "1").iterdir()))[:3]
    assert reader.keeps_bytes
    pixels = [reader.pixels(path) for path in paths]
    assert {each.dtype for each in pixels} == {np.dtype(np.uint8)}
    expected = processor([open_image(path) for path in paths], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(reader.batch(pixels).numpy(), np.stack(list(expected)), atol=1e-6)


def test_a_processor_that_does_more_keeps_what_it_makes(model: ModelSpec) -> None:
    reader = load_image_reader(model)

    class Squared:
        def __init__(self) -> None:
            for name in ("do_rescale", "do_normalize", "rescale_factor", "image_mean", "image_std"):
                setattr(self, name, getattr(reader.processor, name))

        def __call__(self, image: Any, **options: Any) -> dict[str, Any]:
            return {
                "pixel_values": [np.square(p) for p in reader.processor(image, **options)["pixel_values"]]
            }

    other = type(reader)(Squared(), 5)
    assert not other.keeps_bytes
    assert other.digest() != reader.digest()


def test_paths_are_relative_to_their_table(digits: Path, model: ModelSpec, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "images")
    rows = [
        {"image": str(path.relative_to(tmp_path)), "label": path.parent.name}
        for path in sorted((tmp_path / "images").rglob("*.png"))
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_task(task(train=str(tmp_path / "train.jsonl")), model)
    folder = load_task(task(train=str(digits)), model)
    assert data.fingerprint["test"]["rows"] == folder.fingerprint["test"]["rows"]
    # The content of images counts, and not where they are.
    places = [{"train": str(path)} for path in (digits, tmp_path / "images")]
    first, second = (load_task(task(**place, validation=place["train"]), model) for place in places)
    assert first.fingerprint == second.fingerprint
    (tmp_path / "images" / "0" / "0.png").unlink()
    with pytest.raises(InvalidInputError, match=r"the image cannot be read .*first line 1 of train.jsonl"):
        load_task(task(train=str(tmp_path / "train.jsonl"), split_seed=1), model)


def test_content_in_a_table_is_read_like_a_file(digits: Path, model: ModelSpec) -> None:
    path = next((digits / "2").iterdir())
    rows = Rows({"image": [{"bytes": path.read_bytes(), "path": None}, path.read_bytes(), path.name]})
    values = with_image_values(rows, "image", [path.parent])["image"]
    reader = load_image_reader(model)
    pixels = [reader.pixels(value) for value in values]
    assert json.dumps(list(values))  # an exported run can hold them
    assert all((each == pixels[0]).all() for each in pixels)


def test_splits_of_datasets_hold_images(digits: Path, tmp_path: Path) -> None:
    import datasets

    paths = [str(path) for path in sorted(digits.rglob("*.png"))[:4]]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": paths, "label": [0, 1, 0, 1]}, features=features)
    table.save_to_disk(str(tmp_path / "saved"))
    rows = read_source({"disk": str(tmp_path / "saved"), "split": "train", "image_column": "image"})
    assert all(open_image(value).size == (8, 8) for value in rows["image"])


def test_the_key_of_an_example_is_of_its_pixels(digits: Path, model: ModelSpec) -> None:
    reader = load_image_reader(model)
    paths = sorted((digits / "0").iterdir())
    first, second = ({"pixel_values": reader.pixels(path), "labels": 0, "length": 5} for path in paths[:2])
    assert example_key(first) == example_key({**first, "labels": 1})
    assert example_key(first) != example_key(second)


def gray(values: Any, mode: str) -> Any:
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    return Image.fromarray(np.asarray(values, dtype))


def test_images_of_16_bits_are_rescaled(tmp_path: Path) -> None:
    gray([[0, 257], [32_896, 65_535]], "I;16").save(path := tmp_path / "deep.png")
    image, remarks = read_image(path)
    assert np.asarray(image)[..., 0].tolist() == [[0, 1], [128, 255]]
    assert remarks == ("images of 16 bits per channel are rescaled to 8 bits",)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_of_an_unknown_range_are_refused(mode: str, tmp_path: Path) -> None:
    gray([[0, 1], [2, 3]], mode).save(path := tmp_path / "wide.tif")
    with pytest.raises(RowError, match="whose range is not known"):
        read_image(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_images_are_composed_onto_white(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.convert(mode).save(path := tmp_path / "clear.png")
    read, remarks = read_image(path)
    assert np.asarray(read)[0, :, 0].tolist() == [255, 0]
    assert remarks == ("images with transparency are composed onto white",)
    Image.new("RGBA", (2, 1), (9, 9, 9, 255)).save(path)
    assert read_image(path)[1] == ()


def test_decisions_about_images_are_counted(digits: Path, model: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    paths = sorted((folder / "1").iterdir())
    for path in paths:
        gray(np.asarray(Image.open(path), np.uint16) * 257, "I;16").save(path)
    notes = load_task(task(train=str(folder)), model).notes
    wanted = f"in {len(paths)} examples, images of 16 bits per channel are rescaled"
    assert any(note.startswith(wanted) for note in notes)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", None])
def test_files_that_hold_no_image_are_refused(
    content: bytes | None, digits: Path, model: ModelSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    path = folder / "0" / "0.png"
    path.write_bytes(next((digits / "1").iterdir()).read_bytes()[:60] if content is None else content)
    with pytest.raises(InvalidInputError, match=r"the (file of the )?image .* first 0/0.png of digits"):
        load_task(task(train=str(folder)), model)


def test_a_processor_of_another_size_is_refused(tmp_path: Path) -> None:
    from transformers import ViTImageProcessor

    folder = write_model(tmp_path / "vit", "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(str(folder))
    with pytest.raises(InvalidInputError, match=r"pixels of \(3, 16, 16\), and the model reads \(3, 8, 8\)"):
        load_image_reader(ModelSpec(name=str(folder)))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InvalidInputError, match="no image processor that can be loaded"):
        load_image_reader(ModelSpec(name=str(folder)))


def test_images_have_no_length_to_cut(digits: Path, model: ModelSpec) -> None:
    spec = task(train=str(digits))
    data = load_task(spec, model)
    assert data.at_length(spec, None) is data
    with pytest.raises(InvalidInputError, match="images have no tokens that could be cut"):
        data.at_length(spec, 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "image-classification", "label": "y"}, "task.image: missing"),
        ({"type": "image-classification", "image": "x", "label": "x"}, "is also an image column"),
        (
            {"type": "image-classification", "image": "x", "text": "t", "label": "y"},
            "task.text: is not for image",
        ),
        ({"text": "t", "image": "x", "label": "y"}, "task.image: is not for sequence-classification"),
        ({"type": "causal-lm", "text": "t", "image": "x"}, "causal-lm reads no images"),
    ],
)
def test_fields_of_other_tasks_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskSpec(**fields)
