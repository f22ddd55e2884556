"""A `.skops` file of anybody's -> whether it holds only what a head of ours is written as.

skops reads whatever scikit-learn has, in any number: estimators that open files, start threads or
hand indices to C, and compressed zeros by the gigabyte. So its plan of the objects, `schema.json`,
is read first, and the header of every array. Nothing is decompressed, imported or built here.
"""

import io
import json
import zipfile
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np

_PLAN: Final = "schema.json"
_ARRAY: Final = ".npy"

_MOST_PLAN_BYTES: Final = 64 << 20
"""Of the plan; an SVM has 4.5 kB of it for each class, the others less than a tenth of that."""
_MOST_NODES: Final = 1_000_000
"""Objects in the plan; an SVM has 11 for each class."""
_DEEPEST: Final = 32
"""Objects inside one another; a calibrated classifier in its pipeline is 13 deep."""
_MOST_MEMBERS: Final = 200_000
"""Arrays; an SVM has two for each class, of one number each."""
_FIRST_PROTOCOL: Final = 2
"""Of skops 0.13 and all since. Files that claim an older one are read by older, laxer code."""

_ENTRY: Final = b"PK\x01\x02"  # before each entry of the directory of a zip archive

_NUMBERS: Final = frozenset(f"numpy.{one}" for one in ("float64", "float32", "int64", "int32"))
_PLAIN: Final = {"__class__", "__module__", "__loader__", "__id__"}

# The loaders of skops that write our heads: what each may load, and what it says beside the type.
_LOADERS: Final[Mapping[str, tuple[frozenset[str], set[str]]]] = {
    "DictNode": (frozenset({"builtins.dict"}), {"content", "key_types"}),
    "ListNode": (frozenset({"builtins.list"}), {"content"}),
    "TupleNode": (frozenset({"builtins.tuple"}), {"content"}),
    "JsonNode": (frozenset({"builtins.str"}), {"content", "is_json"}),
    "TypeNode": (frozenset({"builtins.str"}), set()),
    "NdArrayNode": (_NUMBERS | {"numpy.ndarray"}, {"type", "file"}),
    "FunctionNode": (frozenset({"sklearn.metrics.pairwise.rbf_kernel"}), set()),
    "ObjectNode": (
        frozenset(
            {
                "sklearn.calibration.CalibratedClassifierCV",
                "sklearn.calibration._CalibratedClassifier",
                "sklearn.calibration._SigmoidCalibration",
                "sklearn.calibration._TemperatureScaling",
                "sklearn.kernel_approximation.Nystroem",
                "sklearn.linear_model._logistic.LogisticRegression",
                "sklearn.pipeline.Pipeline",
                "sklearn.preprocessing._data.Normalizer",
                "sklearn.preprocessing._data.StandardScaler",
                "sklearn.preprocessing._function_transformer.FunctionTransformer",
                "sklearn.svm._classes.LinearSVC",
                "sklearn.svm._classes.SVC",
            }
        ),
        {"content"},
    ),
}

TYPES: Final = frozenset().union(*(types for types, _ in _LOADERS.values()))
"""Every type in a head of ours, and one function."""


class Foreign(ValueError):
    """It holds what no head of ours holds, though another program's may, or another classifier."""


class Surplus(ValueError):
    """Its metadata has other fields than ours; `version` is the format version that it states."""

    def __init__(self, version: Any) -> None:
        super().__init__("its metadata has more fields than it should")
        self.version = version


def require_ours(data: bytes, fields: Collection[str]) -> None:
    """Refuse an archive that is not as skops writes a head of ours.

    Parameters
    ----------
    data : bytes
        The archive.
    fields : collection of str
        What the metadata may have.

    Raises
    ------
    Foreign
        If it holds other types.
    Surplus
        If its metadata has more than `fields`.
    Exception
        Nearly any other, if it is damaged or made up; the message says what is wrong.
    """
    if data.count(_ENTRY) > _MOST_MEMBERS:
        raise ValueError("it has more members than a head needs")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {one.filename: one for one in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("two of its members have one name")
        # Stored as they are, and none twice: what they take in memory is what the file has.
        if any(
            one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size
            for one in members.values()
        ) or sum(one.file_size for one in members.values()) > len(data):
            raise ValueError("its members are compressed or overlap")
        plan = members.pop(_PLAN, None)
        if plan is None or plan.file_size > _MOST_PLAN_BYTES:
            raise ValueError(f"it has no {_PLAN}, or one beyond {_MOST_PLAN_BYTES >> 20} MB")
        try:
            root = json.loads(archive.read(plan))
        except RecursionError as error:
            raise ValueError("its objects are too deep inside one another") from error
        _require_nodes(root, members, fields)
        for member in members.values():
            with archive.open(member) as file:
                _require_header(file, member)


def _require_header(file: Any, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims another size than there are bytes."""
    version = np.lib.format.read_magic(file)
    if not member.filename.endswith(_ARRAY) or version != (1, 0):
        raise ValueError(f"{member.filename!r} is no array")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    size = int(np.prod([dtype.itemsize, *map(int, shape)], dtype=object))
    if (
        dtype.kind not in "iufU"
        or min(shape, default=0) < 0
        or size != member.file_size - file.tell()
    ):
        raise ValueError(f"array {member.filename!r} has another size or kind than it says")
    if not dtype.itemsize or len(shape) > 2:
        raise ValueError(
            f"array {member.filename!r} has {len(shape)} dimensions, or empty elements"
        )


def _require_nodes(root: Any, members: Iterable[str], fields: Collection[str]) -> None:
    if not isinstance(root, dict) or root.get("__loader__") != "DictNode":
        raise ValueError(f"its {_PLAN} describes no dictionary")
    protocol = root.pop("protocol", None)
    root.pop("_skops_version", None)
    if type(protocol) is not int or protocol < _FIRST_PROTOCOL:
        raise ValueError(f"it is in protocol {protocol!r} of skops; ours are in {_FIRST_PROTOCOL}")
    _require_fields(root["content"], fields)
    walk = _Walk(frozenset(members))
    walk.nodes(root, 0)
    if walk.foreign:
        raise Foreign(", ".join(sorted(walk.foreign)))


def _require_fields(content: Any, fields: Collection[str]) -> None:
    """Refuse what nobody will ask for before it is built, which takes 60 us for each object."""
    if not isinstance(content, dict) or content.keys() != {"pipeline", "metadata"}:
        raise ValueError("it is no dictionary of a pipeline and its metadata")
    metadata = content["metadata"]
    if metadata["__loader__"] != "DictNode":
        raise ValueError("its metadata is no dictionary")
    if not set(metadata["content"]) <= set(fields):
        raise Surplus(json.loads(metadata["content"]["format_version"]["content"]))


class _Walk:
    """Follows a plan as skops will, and counts the objects that will be there.

    skops takes an object with an identity that it has met for the one that it met, so that few
    lines can stand for any number of objects inside one another.
    """

    def __init__(self, members: frozenset[str]) -> None:
        self.foreign: set[str] = set()
        self._members = members
        self._counts: dict[int, int] = {}

    def nodes(self, node: Any, depth: int) -> int:
        """How many objects a node stands for, itself included."""
        if not isinstance(node, dict) or depth > _DEEPEST:
            raise ValueError("an object in it is none, or too deep inside others")
        loader, identity = node.get("__loader__"), node.get("__id__")
        name = f"{node.get('__module__')}.{node.get('__class__')}"
        if type(identity) is not int or identity <= 0:
            raise ValueError(f"a {name} in it has no identity")
        if identity in self._counts:
            count = self._counts[identity]
            if not count:
                raise ValueError(f"a {name} in it holds itself")
            return count
        types, more = _LOADERS.get(loader if isinstance(loader, str) else "", (frozenset(), set()))
        if name not in types:
            self.foreign.add(f"{name} by {loader}" if name in TYPES else name)
            return 1
        if node.keys() != _PLAIN | more:
            raise ValueError(f"a {name} in it is not written as skops writes it")
        self._counts[identity] = 0
        count = 1 + sum(self.nodes(child, depth + 1) for child in self._children(node, str(loader)))
        if count > _MOST_NODES:
            raise ValueError(f"it has more than {_MOST_NODES:,} objects")
        self._counts[identity] = count
        return count

    def _children(self, node: dict[str, Any], loader: str) -> list[Any]:
        content = node.get("content")
        if loader == "JsonNode":
            _require_scalar(content)
        elif loader == "NdArrayNode":
            # Named by its identity, a file is read once.
            if node["type"] != "numpy" or node["file"] != f"{node['__id__']}{_ARRAY}":
                raise ValueError("an array in it is not written as skops writes it")
            if node["file"] not in self._members:
                raise ValueError(f"it lacks the array {node['file']!r}")
        elif loader == "ObjectNode":
            if not isinstance(content, dict) or content.get("__loader__") != "DictNode":
                raise ValueError("an object in it has no attributes")
            return [content]
        elif loader == "DictNode":
            keys = node["key_types"]
            if not isinstance(content, dict) or not isinstance(keys, dict):
                raise ValueError("a dictionary in it is none")
            if keys.get("__loader__") != "ListNode" or len(keys["content"]) != len(content):
                raise ValueError("a dictionary in it has more or fewer keys than values")
            return [keys, *content.values()]
        elif loader in ("ListNode", "TupleNode"):
            if not isinstance(content, list):
                raise ValueError("a list in it is none")
            return content
        return []


def _require_scalar(content: Any) -> None:
    value = json.loads(content) if isinstance(content, str) else []
    if isinstance(value, list | dict):
        raise ValueError("a text or number in it is none")  # noqa: TRY004 - of a file, not a caller
