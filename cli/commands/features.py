"""The commands that make and look at feature files: scan, extract, import, seal, info, verify."""

import json
from pathlib import Path
from typing import Any

import click

from .options import (
    ENGINE,
    FILE,
    JSON,
    LABELS,
    OF_EXAMPLES,
    REMOVE,
    SOURCES,
    TRUST,
    WHAT,
    choice,
    columns,
    columns_of,
    number,
    out,
)


@click.command(epilog=WHAT)
@SOURCES
@LABELS
@columns
@JSON
def scan(sources: tuple[str, ...], as_json: bool, **how: Any) -> None:
    """Say what SOURCE is understood to be: images, classes, splits, and what is passed over.

    Nothing is embedded or written. `extract` says the same before it begins.
    """
    from ...extract import scan
    from ..printing import sources as printed

    printed.listing(scan(sources, **how), as_json=as_json)


@click.command(epilog=WHAT)
@SOURCES
@out(
    "FILE.h5",
    "The feature file; may be in a bucket (s3://bucket/FILE.h5), or several (FILE-*-of-00016.h5).",
)
@choice("--backbone", "Xception", "NAME", "Any image classifier of keras.applications.")
@choice(
    "--weights",
    "imagenet",
    "imagenet|random|FILE",
    "Downloaded once, seeded at random, or a weights file without the top layers (for int8 also a "
    "feature file, for its quantised backbone).",
)
@number("--size", "Side of the input in pixels [default: the backbone's].")
@choice("--fit", "stretch", "stretch|crop|pad", "How an image becomes square.")
@choice(
    "--precision",
    "f32",
    "f32|bf16|int8",
    "Arithmetic of the backbone; bf16 is about twice as fast on processors that have it. int8 "
    "quantises the backbone once, by these images, and keeps it in FILE.h5.",
)
@LABELS
@columns
@number("--views", "Vectors of each image: itself, and random changes of it [default: as before].")
@click.option(
    "--augment",
    metavar="CHANGES",
    help="What changes: flip, vertical, rotation=0.1, crop=0.8, color=0.2, with commas between "
    "them [default: as before, or flip,rotation=0.1].",
)
@click.option(
    "--views-of",
    metavar="training|all",
    help="Which images have views [default: as before, or all but those of the test split].",
)
@choice("--dtype", "float32", "float32|float16", "Type of the stored vectors.")
@ENGINE
@number("--batch", "Images per call [default: chosen].")
@number("--streams", "Calls in parallel, openvino only [default: chosen].")
@number("--threads", "Processor cores that the engine uses [default: all, shared by the workers].")
@click.option(
    "--fresh",
    is_flag=True,
    help="Make the file anew, with nothing of one made with other settings, or damaged.",
)
@REMOVE
@click.option(
    "--rescan", is_flag=True, help="Read every file again, be it unchanged by date and inode."
)
@number("--workers", "Processes that embed, each with its own backbone in memory.", 1)
@click.option(
    "--dask",
    metavar="ADDRESS|local",
    help="Embed on the workers of a Dask cluster, by the address of its scheduler "
    "(tcp://HOST:8786); local starts one on this machine (extra dask). FILE.h5 "
    "has to be on a disk that all share, or at a URL.",
)
@click.option(
    "--ray",
    metavar="auto|ADDRESS",
    help="Embed on the workers of a Ray cluster, as with --dask; auto: that of this machine "
    "(extra ray).",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Embed one of N parts of the images, beside processes that embed the others, as in a job "
    "array; `headstart seal` makes the file when all are done.",
)
@click.option(
    "--strict", is_flag=True, help="Exit with 1 if any image was skipped, or cannot be read."
)
@JSON
def extract(
    sources: tuple[str, ...],
    out: str,
    strict: bool,
    as_json: bool,
    dask: str | None,
    ray: str | None,
    shard: str | None,
    **settings: Any,
) -> int:
    """Embed the images of SOURCE once, into one feature file.

    What SOURCE is understood to be is printed first: the label of an image is the name of its
    folder, or what a list says; folders named train, val or test are its split. Run the same
    command again to go on after an interruption, or to take in new images.
    """
    from ...extract import Listing, extract, extract_shard
    from ..printing import features as printed
    from ..printing import sources as understood

    given = {"--dask": dask, "--ray": ray, "--shard": shard}
    if len(several := [name for name, value in given.items() if value is not None]) > 1:
        raise click.UsageError(f"{' and '.join(several)} exclude each other.")
    seen: list[Listing] = []
    told = seen.append if as_json else understood.listing
    if shard is not None:
        part = extract_shard(sources, out, shard, progress=True, seen=told, **settings)
        printed.shard(part, out, as_json=as_json)
        return 1 if strict and part.skipped else 0
    if dask is not None or ray is not None:
        settings["executor"] = f"ray:{ray}" if dask is None else f"dask:{dask}"
    store = extract(sources, out, progress=True, seen=told, **settings)
    printed.extraction(store, as_json=as_json, source=[understood.values(one) for one in seen])
    summary = store.summary
    return 1 if strict and summary.skipped + summary.unreachable else 0


@click.command("import")
@click.argument("vectors", metavar="VECTORS.npy|.parquet|.h5")
@click.option(
    "--list",
    metavar="LIST.csv",
    help="What the vectors are of, a line each in the same order: columns id, label, split, group, "
    "text [default: the columns of a Parquet file, or row numbers].",
)
@columns_of(OF_EXAMPLES)
@out("FILE.h5", "The feature file; may be in a bucket (s3://bucket/FILE.h5).")
@click.option("--dataset", metavar="NAME", help="Data set of an HDF5 file [default: the only one].")
@click.option(
    "--encoder",
    metavar="NAME",
    help="What made the vectors: heads are applied only to vectors of which the same is said "
    "[default: the name of their file].",
)
@click.option("--revision", default="", metavar="TEXT", help="Which one of that name.")
@click.option(
    "--settings", metavar="JSON", help='All else that can change a vector, as {"pooling": "mean"}.'
)
@choice("--dtype", "float32", "float32|float16", "Type of the stored vectors.")
@click.option(
    "--fresh",
    is_flag=True,
    help="Make the file anew, with nothing of one made with other settings, or damaged.",
)
@click.option("--remove", is_flag=True, help="Let go of examples that are not given any more.")
@JSON
def import_(vectors: str, out: str, settings: str | None, as_json: bool, **how: Any) -> None:
    """Make a feature file of VECTORS that something else made: of texts, sounds, anything.

    What the file is good for is as of one that `extract` made, but for what takes images. Run the
    same command again to take in new vectors and labels; the ids are what tells examples apart.
    Nothing in VECTORS is run: a pickle is not loaded.
    """
    from ...extract import import_vectors
    from ..printing import features as printed

    told: list[str] = []
    how["settings"] = None if settings is None else _object(settings)
    store = import_vectors(vectors, out, seen=lambda _, notes: told.extend(notes), **how)
    printed.written(store, told, as_json=as_json)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--settings is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise click.UsageError('--settings: an object is expected, as {"pooling": "mean"}.')
    return found


@click.command()
@FILE
@JSON
def seal(file: str, as_json: bool) -> None:
    """Make a feature file of which `extract --shard` has embedded all parts.

    If images are missing it says how many, and which shards they belong to.
    """
    from ...extract import seal
    from ..printing import features as printed

    printed.extraction(seal(file, progress=True), as_json=as_json)


@click.command()
@click.argument("file", metavar="FILE.h5|HEAD", required=False)
@click.option("--skipped", is_flag=True, help="List the images that were skipped, and why.")
@click.option(
    "--system",
    is_flag=True,
    help="Say what this machine has instead: processor, engines, versions, caches.",
)
@TRUST
@JSON
def info(file: str | None, skipped: bool, system: bool, trust: bool, as_json: bool) -> None:
    """Say what is in a feature file or a head."""
    if system and file is None and not skipped:
        from ...extract.system import system_info
        from ..printing import system as found

        found.system(system_info(), as_json=as_json)
    elif file is None or system:
        raise click.UsageError("Give either a FILE.h5 or HEAD, or --system.")
    elif Path(file).suffix.lower() in (".joblib", ".skops"):
        from ...classify import load_head
        from ..printing import heads

        heads.head(load_head(file, trust=trust), as_json=as_json)
    else:
        from ...features import FeatureStore
        from ..printing import features

        features.store(FeatureStore(file), list_skipped=skipped, as_json=as_json)


@click.command()
@FILE
@JSON
def verify(file: str, as_json: bool) -> int:
    """Check every checksum, digest and rule of a feature file; exit with 1 if one fails."""
    from ...features import verify
    from ..printing import features as printed

    problems = verify(file)
    printed.verification(file, problems, as_json=as_json)
    return 1 if problems else 0
