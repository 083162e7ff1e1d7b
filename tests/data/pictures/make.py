"""Pictures of 16x8 pixels whose EXIF user comment holds webui parameters, as the webui writes them (piexif 1.1.3,
Pillow): python make.py writes webui.jpg and webui.webp, and other.jpg in the other order of bytes."""

import struct

import piexif
import piexif.helper
from PIL import Image

TEXT = (
    "a cat, 猫\n"
    "Negative prompt: blurry: very\n"
    'Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 42, Size: 16x8, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
)

picture = Image.new("RGB", (16, 8), (200, 100, 50))
comment = piexif.helper.UserComment.dump(TEXT, encoding="unicode")
block = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}})
picture.save("webui.jpg", quality=90, exif=block)
picture.save("webui.webp", lossless=True, exif=block)

comment = b"UNICODE\0" + TEXT.encode("utf-16-le")
block = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 26, 0)
block += struct.pack("<HHHIII", 1, 0x9286, 7, len(comment), 44, 0) + comment
picture.save("other.jpg", quality=90, exif=block)
