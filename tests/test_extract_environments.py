"""Where headstart finds itself: forked, found through sys.path, beside others' settings."""

import json
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from pathlib import Path
from types import ModuleType

import headstart.extract
import numpy as np
import pytest
from headstart.extract import ImageEmbedder, engines, machine, vector_cache
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.engines.engine import Engine, Tuning
from headstart.features import BackboneError, WrongUsage, child

FAST = {"backbone": "MobileNetV2", "weights": "random", "size": 64}
LONGEST_S = 200
needs_openvino = pytest.mark.skipif(
    not machine.installed("openvino"), reason="openvino is not installed"
)
needs_onnx = pytest.mark.skipif(
    not engines.TABLE["onnxruntime"].available(), reason="the extra onnx is not installed"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


def run(folder, program, *arguments, python=sys.executable, **environment):
    """Run a program in a process of its own, and return what its last line says, as JSON."""
    path = folder / "program.py"
    path.write_text(f"FAST = {FAST!r}\n{textwrap.dedent(program)}")
    done = subprocess.run(
        [python, path, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def in_forked_child(act):
    """The exit code of a forked process that does `act`; it fails if that takes for ever."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(act())
        finally:
            os._exit(99)
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "no answer"


@needs_fork
@pytest.mark.parametrize(
    "engine",
    [
        "keras",
        pytest.param("openvino", marks=needs_openvino),
        pytest.param("onnxruntime", marks=needs_onnx),
    ],
)
def test_a_process_forked_after_embedding_has_known_vectors_and_is_told_of_spawn_for_others(
    engine, tmp_path, fill_photos
):
    fill_photos(tmp_path / "photos")
    told = run(
        tmp_path,
        """
        import glob, json, multiprocessing, sys
        from headstart.apply import predict
        from headstart.classify import train
        from headstart.extract import ImageEmbedder, extract

        how = {**FAST, "engine": sys.argv[1]}
        embedder = ImageEmbedder(**how, cache="cache")
        paths = sorted(glob.glob("photos/*/*"))

        def ask(question):
            try:
                return len(eval(question))
            except Exception as error:
                return f"{type(error).__name__}: {error}"

        if __name__ == "__main__":
            head = train(extract("photos", "pets.h5", **how))
            embedder.transform(paths[:5])
            with multiprocessing.get_context("fork").Pool(1) as pool:
                asked = [
                    "embedder.transform(paths[:5])",
                    "extract('photos', 'pets.h5', **how).paths",
                    "embedder.transform(paths[5:])",
                    "extract('photos', 'more.h5', **how).paths",
                    "predict(head, 'photos', engine=sys.argv[1])",
                ]
                told = pool.map_async(ask, asked).get(150)
            told.append(len(embedder.transform(paths)))  # and the parent goes on
            print(json.dumps(told))
        """,
        engine,
    )
    assert (told[0], told[1], told[-1]) == (5, 18, 18)
    for refused in told[2:5]:
        assert refused.startswith("BackboneError: this process was forked after ")
        assert 'multiprocessing.get_context("spawn")' in refused


@needs_fork
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks into /proc")
def test_a_forked_process_embeds_unless_tensorflow_had_started_be_it_by_others(tmp_path):
    """Neither process has headstart when it is forked, so it has to see for itself."""
    told = run(
        tmp_path,
        """
        import json, multiprocessing
        import keras
        import numpy as np
        import tensorflow

        def embed(cache):
            from headstart.extract import ImageEmbedder
            images = np.full((3, 20, 20, 3), 90, np.uint8)
            try:
                return len(ImageEmbedder(**FAST, engine="keras", cache=cache).transform(images))
            except Exception as error:
                return str(error)

        def forked(cache):
            with multiprocessing.get_context("fork").Pool(1) as pool:
                return pool.map_async(embed, [cache]).get(90)

        if __name__ == "__main__":
            told = forked("first")
            tensorflow.constant(1.0)
            print(json.dumps([*told, *forked("second"), embed("second")]))
        """,
        KERAS_BACKEND="tensorflow",
    )
    assert (told[0], told[2]) == (3, 3)
    assert told[1].startswith("this process was forked after TensorFlow had started in its parent")


@needs_fork
def test_a_process_forked_while_a_thread_loads_a_backbone_waits_for_nothing(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slowly(request, engine, tuning):
        if request.size == 99:
            begun.set()
            go_on.wait()
        return "backbone", "engine"

    monkeypatch.setattr(engines, "load", slowly)
    loading, other = (Embedding(Request.checked(weights="random", size=size)) for size in (99, 98))
    thread = threading.Thread(target=lambda: loading.engine)
    thread.start()
    begun.wait()
    with vector_cache._sharing:

        def act():
            vector_cache.shared(other.request, "auto", Path("nowhere"))
            return 7 if other.engine == "engine" else 8

        code = in_forked_child(act)
    go_on.set()
    thread.join()
    assert code == 7


class Doubling(Engine):
    name = "doubling"

    def __init__(self):
        from headstart.extract.backbones.build import Backbone

        super().__init__(Backbone(None, "0", 4, 1), 2)

    def environment(self):
        return {}

    def _compile(self, batch):
        return lambda images: images[:, :1, 0, 0].astype(np.float32) * 2


@needs_fork
def test_an_engine_of_the_parent_refuses_in_a_forked_process():
    engine, images = Doubling(), np.full((3, 4, 4, 3), 5, np.uint8)
    assert engine.embed(images).tolist() == [[10]] * 3

    def act():
        try:
            engine.embed(images)
        except BackboneError as error:
            return 7 if "spawn" in str(error) else 8

    assert in_forked_child(act) == 7
    assert engine.embed(images).tolist() == [[10]] * 3


BASE = Path(sys.base_prefix, "bin", "python3")


@pytest.mark.skipif(
    not BASE.exists() or sys.prefix == sys.base_prefix, reason="this is no virtual environment"
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_found_by_sys_path_alone_is_found_by_all_processes(workers, tmp_path, fill_photos):
    """And modules of a notebook's folder do not stand in for those of Python and NumPy."""
    fill_photos(tmp_path / "photos")
    found = [sysconfig.get_paths()["purelib"], *map(str, headstart.extract.__path__)]
    found[1] = str(Path(found[1]).parents[1]) if Path(found[1]).parent.name == "headstart" else ""
    for name in ("random", "select", "loky", "h5py"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this one is not wanted')")
    told = run(
        tmp_path,
        """
        import json, sys
        here, *found = sys.path[0], *filter(None, sys.argv[2:])
        sys.path[:] = [*found, *sys.path[1:], here]
        from headstart.extract import extract
        if __name__ == "__main__":
            store = extract("photos", "pets.h5", **FAST, workers=int(sys.argv[1]))
            print(json.dumps(len(store.paths)))
        """,
        str(workers),
        *found,
        python=BASE,
        PYTHONPATH="",
    )
    assert told == 18


def test_the_search_path_is_absolute_with_python_first_and_the_working_folder_last(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    own = str(Path(os.__file__).parent)
    monkeypatch.setattr(sys, "path", ["", "lib", "/elsewhere", own, str(tmp_path), "lib"])
    assert child.search_path() == [own, str(tmp_path / "lib"), "/elsewhere", str(tmp_path)]


def test_the_search_path_is_known_where_the_working_folder_was_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "lib", "/elsewhere"])
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert child.search_path() == ["/elsewhere"]


@pytest.mark.parametrize("program", ["", "/bin/cat", "/nowhere/python3"])
def test_without_a_python_to_start_the_file_is_written_in_this_process(program, monkeypatch):
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", program)
    called = []
    child.call(called.append, 1)
    assert called == [1]


def test_a_daemonic_process_is_told_that_it_can_have_no_workers(tmp_path):
    told = run(
        tmp_path,
        """
        import json, multiprocessing
        from pathlib import Path
        from headstart.extract.work.processes import executor

        def ask(workers):
            try:
                with executor(workers, Path("x.h5")):
                    return "started"
            except Exception as error:
                return str(error)

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(json.dumps(pool.map_async(ask, [2]).get(150)))
        """,
    )
    assert told[0].startswith("workers 2: this process is itself a daemon of multiprocessing")


def test_a_cache_in_a_working_folder_that_was_deleted_is_refused(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    image = np.zeros((1, 9, 9, 3), np.uint8)
    with pytest.raises(WrongUsage, match="the working folder that it is relative to no longer"):
        ImageEmbedder(cache="cache", **FAST).transform(image)


IMPORT_TWICE = """
import json, os, sys
from headstart.extract import machine
from headstart.features import BackboneError

told = []
for _ in range(int(sys.argv[1])):
    try:
        told.append(machine.import_keras().backend.backend())
    except BackboneError as error:
        told.append(str(error))
    os.environ["KERAS_BACKEND"] = "tensorflow"
print(json.dumps(told))
"""


def test_an_unknown_backend_is_named_and_may_be_mended_at_once(tmp_path):
    told = run(tmp_path, IMPORT_TWICE, "2", KERAS_BACKEND="nonsense", KERAS_HOME=str(tmp_path))
    assert told[0] == (
        "Keras cannot be imported as KERAS_BACKEND=nonsense wants it: Unable to import backend : "
        "nonsense; set it to tensorflow"
    )
    assert told[1] == "tensorflow"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"backend": "nonsense"}, "keras.json (backend nonsense)"),
        ({"floatx": "int3"}, "keras.json"),
        ([], "keras.json"),
    ],
    ids=str,
)
def test_a_file_of_settings_that_keras_cannot_follow_is_named(settings, named, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    told = run(tmp_path, IMPORT_TWICE, "1", KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert told[0].startswith(f"Keras cannot be imported as {tmp_path / named} wants it: ")


def test_the_setting_of_keras_is_none_where_it_names_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert machine.keras_setting() is None
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    assert machine.keras_setting() is None
    (tmp_path / "keras.json").write_text("{nonsense")  # Keras takes it for an empty one
    assert machine.keras_setting() is None
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert machine.keras_setting() == f"{tmp_path / 'keras.json'} (backend torch)"
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert machine.keras_setting() is None
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert machine.keras_setting() == "KERAS_BACKEND=jax"


def test_a_backend_that_fails_to_import_is_named(tmp_path):
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('libtensorflow.so.2: cannot open')")
    told = run(
        tmp_path,
        """
        import json
        from headstart.extract import machine
        from headstart.features import BackboneError
        try:
            machine.import_keras()
        except BackboneError as error:
            print(json.dumps(str(error)))
        """,
        KERAS_BACKEND="tensorflow",
    )
    assert told.startswith("Keras cannot be imported: libtensorflow.so.2: cannot open; install it")


def test_an_openvino_that_cannot_be_imported_is_said_and_auto_goes_on_with_keras(
    monkeypatch, caplog
):
    import dataclasses

    monkeypatch.setitem(sys.modules, "openvino", ModuleType("openvino"))

    def load(request, tuning):
        machine.import_openvino()

    monkeypatch.setitem(
        engines.TABLE, "openvino", dataclasses.replace(engines.TABLE["openvino"], load=load)
    )
    monkeypatch.setitem(
        engines.TABLE,
        "keras",
        dataclasses.replace(engines.TABLE["keras"], load=lambda *_: "by keras"),
    )
    monkeypatch.setattr(engines, "choice", lambda: "openvino")
    request = Request.checked(weights="random", size=71)
    with pytest.raises(BackboneError, match="OpenVINO is installed and cannot be imported: "):
        engines.load(request, "openvino", Tuning())
    assert engines.load(request, "auto", Tuning()) == "by keras"
    assert "going on with the keras engine, since OpenVINO is installed" in caplog.text


_CONVERTS_NOTHING = """
import logging
from headstart.extract import engines
from headstart.extract.backbones.request import Request
from headstart.extract.engines.engine import Tuning
logging.basicConfig(format="%(message)s")
engines.choice = lambda: "onnxruntime"
request = Request.checked(backbone="MobileNetV2", weights="random", size=32)
print(engines.load(request, "auto", Tuning())[1].name)
"""


@pytest.mark.skipif(not machine.installed("onnxruntime"), reason="onnxruntime is not installed")
def test_random_weights_that_cannot_be_converted_go_through_keras_in_a_process_without_it(
    tmp_path,
):
    # Without Keras in it, a process of its own is given the conversion.
    (tmp_path / "tf2onnx").mkdir()
    (tmp_path / "tf2onnx" / "__init__.py").write_text("raise RuntimeError('it is broken')")
    found = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", _CONVERTS_NOTHING],
        env={**os.environ, "HEADSTART_CACHE": str(tmp_path / "cache"), "PYTHONPATH": found},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "keras\n", done.stderr
    assert "going on with the keras engine, since the onnxruntime engine cannot" in done.stderr


def test_an_onnxruntime_that_cannot_be_imported_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(BackboneError, match="ONNX Runtime is installed and cannot be"):
        machine.import_onnxruntime()


def test_libraries_are_imported_without_a_standard_error(tmp_path):
    assert (
        run(
            tmp_path,
            """
        import json, os, sys
        from headstart.extract import machine
        for close in (lambda: None, lambda: os.close(2), sys.stderr.close):
            try:
                close()
            except OSError:
                pass  # its descriptor is closed already
            with machine._silent_stderr():
                pass
        sys.stderr = None
        with machine._silent_stderr():
            pass
        print(json.dumps("imported"))
        """,
        )
        == "imported"
    )
