"""Small copies of the hub's datasets: their layout, columns and features, with other images."""

import io
import random
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from liquidgen.config.settings import HubSettings
from liquidgen.stages.download.procedural import STYLES, draw
from liquidgen.stages.download.sources.labels import class_names

REAL = Path("../shared/data/wikiart7_128")
# the order of the labels of keremberke/painting-style-classification
CARD_ORDER = [
    "Realism",
    "Art_Nouveau_Modern",
    "Analytical_Cubism",
    "Cubism",
    "Expressionism",
    "Action_painting",
    "Synthetic_Cubism",
    "Symbolism",
    "Ukiyo_e",
    "Naive_Art_Primitivism",
    "Post_Impressionism",
    "Impressionism",
    "Fauvism",
    "Rococo",
    "Minimalism",
    "Mannerism_Late_Renaissance",
    "Color_Field_Painting",
    "High_Renaissance",
    "Romanticism",
    "Pop_Art",
    "Contemporary_Realism",
    "Baroque",
    "New_Realism",
    "Pointillism",
    "Northern_Renaissance",
    "Early_Renaissance",
    "Abstract_Expressionism",
]
WIKIART_ORDER = sorted({*CARD_ORDER, "Art_Nouveau"} - {"Art_Nouveau_Modern"})


def pictures(count: int) -> list[bytes]:
    """Return image files: real paintings where they are at hand, else procedural ones."""
    if REAL.is_dir():
        (path,) = REAL.glob("*.parquet")
        column = pq.read_table(path, columns=["image"]).column("image")
        return [image["bytes"] for image in islice(column.to_pylist(), count)]
    drawn = []
    for i in range(count):
        file = io.BytesIO()
        draw(list(STYLES)[i % len(STYLES)], 64, i).save(file, "JPEG")
        drawn.append(file.getvalue())
    return drawn


def write(
    path: Path, columns: dict, features: dict, group: int = 100, image_column: str = "image"
) -> None:
    """Write a Parquet file as `datasets` does, which is how the hub's files were made."""
    from datasets import Dataset, Features, Image

    path.parent.mkdir(parents=True, exist_ok=True)
    table = Dataset.from_dict(columns, features=Features({image_column: Image(), **features}))
    table.to_parquet(path, batch_size=group)


def images(files: list[bytes], prefix: str) -> list[dict]:
    """Return the values of a column of images."""
    return [{"bytes": data, "path": f"{prefix}{i:05d}.jpg"} for i, data in enumerate(files)]


def of_block(block: HubSettings, folder: Path) -> Path:
    """Write files that fit a block's patterns and columns, whichever dataset it is."""
    from datasets import ClassLabel

    for number, pattern in enumerate(block.files):
        names = block.label_names or class_names(block.classes or ["cat", "dog"])
        rows = 2 * len(names)
        columns = {block.image_column: images(pictures(rows), f"{number}-")}
        features = {}
        if block.label_column is not None:
            columns[block.label_column] = [i % len(names) for i in range(rows)]
            features[block.label_column] = ClassLabel(names=[*names])
        path = folder / pattern.replace("*", "0000")
        write(path, columns, features, image_column=block.image_column)
    return folder


def paintings(folder: Path) -> Path:
    """Write revision refs/convert/parquet of keremberke/painting-style-classification."""
    from datasets import ClassLabel, Value

    features = {"image_file_path": Value("string"), "labels": ClassLabel(names=CARD_ORDER)}
    counts = {"full/train": 108, "full/validation": 54, "full/test": 27}
    counts |= dict.fromkeys(("mini/train", "mini/validation", "mini/test"), 52)
    for name, count in counts.items():
        files = pictures(count)
        columns = {
            "image": images(files, name.replace("/", "_") if name.startswith("full") else "mini"),
            "image_file_path": [f"/storage/{name}/{i}.jpg" for i in range(count)],
            "labels": [i % 27 for i in range(count)],
        }
        write(folder / name / "0000.parquet", columns, features)
    return folder


def script_only(folder: Path) -> Path:
    """Write branch main of the same repository: archives, and the script that reads them."""
    folder.mkdir(parents=True)
    (folder / "painting-style-classification.py").write_text("raise SystemExit('was run')")
    (folder / "README.md").write_text("---\ntask_categories: [image-classification]\n---\n")
    (folder / "train.zip").write_bytes(b"PK")
    return folder


def cartoon(folder: Path) -> Path:
    """Write branch main of Norod78/cartoon-blip-captions."""
    from datasets import Value

    columns = {"image": images(pictures(40), "c"), "text": [f"cartoon {i}" for i in range(40)]}
    write(
        folder / "data/train-00000-of-00001-dfb0d9df7ebab67e.parquet",
        columns,
        {"text": Value("string")},
    )
    return folder


def flowers(folder: Path) -> Path:
    """Write branch main of huggan/flowers-102-categories."""
    write(folder / "data/train-00000-of-00001.parquet", {"image": images(pictures(40), "f")}, {})
    return folder


def wikiart(folder: Path, files: int = 4, rows: int = 270, group: int = 100, size: int = 0) -> Path:
    """Write branch main of huggan/wikiart: fewer files, and images padded to `size` bytes."""
    from datasets import ClassLabel

    features = {
        "artist": ClassLabel(names=["Unknown Artist", *(f"artist-{i}" for i in range(128))]),
        "genre": ClassLabel(names=[*(f"genre_{i}" for i in range(10)), "Unknown Genre"]),
        "style": ClassLabel(names=WIKIART_ORDER),
    }
    styles = [i % 27 for i in range(files * rows)]
    random.Random(0).shuffle(styles)
    some = [data.ljust(size, b"\0") for data in pictures(300)]
    for number in range(files):
        start = number * rows
        columns = {
            "image": images([some[(start + i) % 300] for i in range(rows)], f"{number}-"),
            "artist": [i % 129 for i in range(rows)],
            "genre": [i % 11 for i in range(rows)],
            "style": styles[start : start + rows],
        }
        write(folder / f"data/train-{number:05d}-of-00072.parquet", columns, features, group)
    return folder


# by preset; any other preset is served by `of_block`
LAYOUTS = {
    "paintings": paintings,
    "paintings_mini": paintings,
    "cartoon": cartoon,
    "flowers": flowers,
    "wikiart_stream": wikiart,
}
