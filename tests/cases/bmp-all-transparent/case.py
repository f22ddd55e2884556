import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common import *

import struct
from headstart.extract.images.decode import decode
rgb = np.asarray(picture(1, 0)); h, w = rgb.shape[:2]
rows = np.dstack([rgb[::-1, :, ::-1], np.zeros((h, w), np.uint8)]).tobytes()
head = struct.pack("<IiiHHIIiiII", 108, w, h, 1, 32, 3, len(rows), 0, 0, 0, 0) + struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
data = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows
seen = decode(data, 96).pixels.mean()
verdict(abs(seen - rgb.mean()) < 3, f"mean {seen:.0f}, expected {rgb.mean():.0f}")
