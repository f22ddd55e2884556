"""What another system lacks, simulated here: modules, descriptors that flush, slashes."""

import ntpath
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from headstart.extract.sources import image
from headstart.features import durable

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("features", "extract", "classify", "apply", "pages", "cli")
POSIX = ("fcntl", "grp", "posixshmem", "pty", "pwd", "resource", "syslog", "termios", "tty")
LACKING = {
    "os": (
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG"),
        *("chown", "fork", "forkpty", "geteuid", "getgid", "getpgid", "getuid", "killpg"),
        *("mkfifo", "nice", "openpty", "posix_fadvise", "pread", "register_at_fork"),
        *("sched_getaffinity", "setsid", "statvfs", "sysconf", "uname", "wait3"),
    ),
    "signal": (
        *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1"),
        *("SIG_BLOCK", "SIG_SETMASK", "alarm", "pthread_sigmask", "setitimer"),
    ),
}


def test_every_module_is_imported_on_a_system_without_what_only_posix_has():
    """Ours are imported twice: the first time loads all others, which look at the system too."""
    names = [
        ".".join(("headstart", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    assert len(names) > 100
    program = f"""
import importlib, os, signal, sys
names = {names!r}
for name in names:
    importlib.import_module(name)
for name in [one for one in sys.modules if one.startswith("headstart.")]:
    del sys.modules[name]
for name in {POSIX!r}:
    sys.modules[name] = None
for module, lacking in {LACKING!r}.items():
    for name in lacking:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
sys.platform = "win32"
for name in names:
    importlib.import_module(name)
print(len(names), flush=True)
os._exit(0)  # what others do at exit needs what is lacking
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(len(names))), done.stderr[-2000:]


class Windows:
    """`os` as Windows has it, where that makes a difference to a file that is flushed."""

    name = "nt"

    def __getattr__(self, name):
        return getattr(os, name)

    def fsync(self, descriptor):
        import fcntl

        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        os.fsync(descriptor)


@pytest.mark.skipif(os.name == "nt", reason="simulates Windows")
def test_a_file_is_written_where_only_what_may_be_written_is_flushed(monkeypatch, tmp_path):
    monkeypatch.setattr(durable, "os", Windows())
    with durable.replacing(tmp_path / "kept") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "kept").read_text() == "new"
    assert durable.publish(tmp_path / "unit", b"first")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (rb"cats\1.jpg", b"cats/1.jpg"),
        (rb".\cats\1.jpg", b"cats/1.jpg"),
        (b"cats/1.jpg", b"cats/1.jpg"),
        (rb"C:\photos\cats\1.jpg", b"C:/photos/cats/1.jpg"),
        (rb"new\..\cats\1.jpg", b"cats/1.jpg"),
    ],
)
def test_an_image_has_one_name_whichever_slashes_a_system_writes(given, name, monkeypatch):
    windows = SimpleNamespace(path=ntpath, sep="\\", fsencode=os.fsencode)
    monkeypatch.setattr(image, "os", windows)
    assert image.tidy(given) == name
