import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common import *

import io, struct
def exif(*entries, tail=b""):
    """An EXIF block of (tag, type, count, four bytes) entries; tail follows the directory."""
    body = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack("<HHI", tag, kind, count) + value
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0) + tail
def short(n):
    return struct.pack("<HH", n, 0)
def after(entries):
    """Offset of the tail behind that many entries."""
    return struct.pack("<I", 8 + 2 + 12 * entries + 4)
def jpeg_with(block):
    data = io.BytesIO(); picture(1, size=(160, 100)).save(data, "JPEG"); data = data.getvalue()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]

from PIL import PngImagePlugin
text = PngImagePlugin.PngInfo(); text.add_itxt("note", "a" * 2_000_000, zip=True)
png = io.BytesIO(); picture(2, size=(160, 100)).save(png, "PNG", pnginfo=text)
files = {
    "jpeg, turned, resolution is a signed fraction": (jpeg_with(exif(
        (0x112, 3, 1, short(6)), (0x11A, 10, 1, after(2)), tail=struct.pack("<ii", -1, 0))), (100, 160)),
    "png, 2 MB of compressed text": (png.getvalue(), (160, 100)),
}

from headstart.extract.images.decode import decode
wrong = []
for name, (data, size) in files.items():
    try:
        seen = decode(data, 150)
        if (seen.width, seen.height) != size:
            wrong.append(f"{name}: {seen.width}x{seen.height}")
    except Exception as error:
        wrong.append(f"{name}: {error}")
verdict(not wrong, "; ".join(wrong) or f"{len(files)} files decoded")
