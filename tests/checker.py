"""Is every result of every finished job safe? An independent witness: shares no code with dronekeeper.

checker.py EXPECT RESULTS STORE

EXPECT is JSON, {job: {path in hex: SHA-256 of its latest content}}. RESULTS is the results directory, STORE a
directory with the store's objects as files. Prints what is wrong, counts it, and ends with 1 if anything is.

  lost       a file that is neither in the store under a manifest nor on the disk, with its latest content
  corrupt    an object whose bytes are not what its manifest says
  dangling   a manifest that lists an object which is not there
  premature  a job that is gone from the disk and has no manifest
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import zlib


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def packed(store, manifest, part):
    """SHA-256 of a file in a pack, `None` if the pack is not there, "" if it holds no file there."""
    pack = manifest["packs"][part["pack"]]
    path = os.path.join(store, pack["object"]["key"])
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        file.seek(part["offset"])
        record = file.read(part["length"])
    try:
        raw = gzip.decompress(record) if pack["encoding"] == "gzip" else record
        with tarfile.open(fileobj=io.BytesIO(raw + bytes(1024))) as archive:
            return hashlib.sha256(archive.extractfile(archive.next()).read()).hexdigest()
    except (OSError, EOFError, zlib.error, tarfile.TarError, AttributeError):
        return ""


def files_below(top):
    """The files below a directory, by path in bytes; links are not followed."""
    top = os.fsencode(top)
    for at, _, names in os.walk(top):
        for name in names:
            path = os.path.join(at, name)
            if not os.path.islink(path) and os.path.isfile(path):
                yield os.path.relpath(path, top), path


def manifests(store):
    for at, _, names in os.walk(store):
        if os.path.basename(at) == ".dronekeeper" and "manifest.json" in names:
            path = os.path.join(at, "manifest.json")
            try:
                with open(path, encoding="utf-8") as file:
                    yield path, json.load(file)
            except ValueError:
                yield path, None


def check(expect, results, store):
    wrong = {"lost": [], "corrupt": [], "dangling": [], "premature": []}
    stored = {}  # job -> set of (path in hex, sha256) that a true manifest proves
    for path, manifest in manifests(store):
        if manifest is None:
            continue  # no program may believe it, so it proves nothing
        true = True
        entries = set()
        for entry in manifest["entries"]:
            if entry["kind"] != "file":
                continue
            name = entry.get("path_hex") or entry["path"].encode().hex()
            if part := entry.get("part"):
                found = packed(store, manifest, part)
                if found == part["sha256"]:
                    entries.add((name, found))
                else:
                    wrong["dangling" if found is None else "corrupt"].append(f"{path}: {name}")
                    true = False
                continue
            object_ = entry["object"]
            file = os.path.join(store, object_["key"])
            if not os.path.isfile(file):
                wrong["dangling"].append(f"{path}: {object_['key']}")
                true = False
            elif os.path.getsize(file) != entry["size"] or sha256(file) != object_["sha256"]:
                wrong["corrupt"].append(f"{path}: {object_['key']}")
                true = False
            else:
                entries.add((name, object_["sha256"]))
        if true:
            stored.setdefault(manifest["job"], set()).update(entries)
    on_disk = {}
    trash = os.path.join(results, ".dronekeeper-trash")
    places = [(job, os.path.join(results, job)) for job in expect]
    for slot in os.listdir(trash) if os.path.isdir(trash) else []:
        tree = os.path.join(trash, slot, "tree")
        if os.path.isdir(tree):
            with open(os.path.join(trash, slot, "origin"), encoding="utf-8") as file:
                places.append((file.read(), tree))
    for job, place in places:
        if os.path.isdir(place):
            files = {(name.hex(), sha256(path)) for name, path in files_below(place)}
            on_disk.setdefault(job, set()).update(files)
    for job, files in expect.items():
        if job not in on_disk and job not in stored:
            wrong["premature"].append(job)
        safe = stored.get(job, set()) | on_disk.get(job, set())
        for name, digest in files.items():
            if (name, digest) not in safe:
                wrong["lost"].append(f"{job}: {bytes.fromhex(name)!r}")
    return wrong


def main():
    expect_file, results, store = sys.argv[1:]
    with open(expect_file, encoding="utf-8") as file:
        expect = json.load(file)
    wrong = check(expect, results, store)
    for kind, cases in wrong.items():
        for case in cases:
            print(f"{kind}: {case}")
    print(", ".join(f"{len(cases)} {kind}" for kind, cases in wrong.items()))
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
