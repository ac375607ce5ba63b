"""Writes the checksums of all that is shipped, which are held against it when it is loaded.

python -m train.checksums
"""

from mla_viz import shipped


def write_checksums() -> None:
    """List every file of the data folder, in the form that `sha256sum --check` reads."""
    files = sorted(file for file in shipped.DATA.rglob("*") if file.is_file())
    lines = [
        f"{shipped.checksum(file)}  {file.relative_to(shipped.DATA).as_posix()}\n"
        for file in files
        if file.name != shipped.CHECKSUMS
    ]
    shipped.shipped(shipped.CHECKSUMS).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_checksums()
