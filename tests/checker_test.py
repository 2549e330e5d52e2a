"""Does the checker see what is wrong? Each case doctors a tree in which all is well."""

import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
import unittest
from pathlib import Path

import checker


class Doctored(unittest.TestCase):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.top)
        self.results, self.store = self.top / "results", self.top / "store"
        (self.results / "2-b").mkdir(parents=True)
        (self.results / "2-b" / "x").write_bytes(b"on disk")
        (self.store / "1-a" / ".dronekeeper").mkdir(parents=True)
        (self.store / "1-a" / "x").write_bytes(b"stored")
        digest = checker.sha256(self.store / "1-a" / "x")
        entry = {"path": "x", "kind": "file", "size": 6, "object": {"key": "1-a/x", "sha256": digest}}
        self.manifest = self.store / "1-a" / ".dronekeeper" / "manifest.json"
        self.manifest.write_text(json.dumps({"job": "1-a", "entries": [entry]}))
        on_disk = checker.sha256(self.results / "2-b" / "x")
        self.expect = {"1-a": {b"x".hex(): digest}, "2-b": {b"x".hex(): on_disk}}

    def wrong(self):
        found = checker.check(self.expect, str(self.results), str(self.store))
        return {kind for kind, cases in found.items() if cases}

    def test_all_is_well(self):
        self.assertEqual(self.wrong(), set())

    def pack(self):
        """The stored file becomes a part of a pack."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
            archive.add(self.store / "1-a" / "x", "x")
        record = gzip.compress(raw.getvalue()[:1024])
        pack = self.store / "1-a" / ".dronekeeper" / "packs" / "p.tar.gz"
        pack.parent.mkdir()
        pack.write_bytes(b"before" + record + b"after")
        manifest = json.loads(self.manifest.read_text())
        entry = manifest["entries"][0]
        entry["part"] = {"pack": 0, "offset": 6, "length": len(record), "sha256": entry.pop("object")["sha256"]}
        manifest["packs"] = [{"encoding": "gzip", "object": {"key": "1-a/.dronekeeper/packs/p.tar.gz"}}]
        self.manifest.write_text(json.dumps(manifest))
        (self.store / "1-a" / "x").unlink()
        return pack

    def test_a_pack_in_which_all_is_well(self):
        self.pack()
        self.assertEqual(self.wrong(), set())

    def test_a_damaged_pack(self):
        pack = self.pack()
        pack.write_bytes(pack.read_bytes()[:30] + b"!" + pack.read_bytes()[31:])
        self.assertEqual(self.wrong(), {"corrupt", "lost", "premature"})

    def test_a_missing_pack(self):
        self.pack().unlink()
        self.assertEqual(self.wrong(), {"dangling", "lost", "premature"})

    def test_a_damaged_object(self):
        (self.store / "1-a" / "x").write_bytes(b"Stored")
        self.assertEqual(self.wrong(), {"corrupt", "lost", "premature"})

    def test_a_missing_object(self):
        (self.store / "1-a" / "x").unlink()
        self.assertEqual(self.wrong(), {"dangling", "lost", "premature"})

    def test_a_missing_manifest(self):
        self.manifest.unlink()
        self.assertEqual(self.wrong(), {"lost", "premature"})

    def test_a_manifest_that_is_none(self):
        self.manifest.write_text("{")
        self.assertEqual(self.wrong(), {"lost", "premature"})

    def test_a_deleted_job(self):
        shutil.rmtree(self.results / "2-b")
        self.assertEqual(self.wrong(), {"lost", "premature"})

    def test_a_lost_file(self):
        os.remove(self.results / "2-b" / "x")
        self.assertEqual(self.wrong(), {"lost"})

    def test_content_that_is_not_the_latest(self):
        (self.results / "2-b" / "x").write_bytes(b"older")
        self.assertEqual(self.wrong(), {"lost"})

    def test_a_job_in_the_trash_is_on_the_disk(self):
        slot = self.results / ".dronekeeper-trash" / "0"
        slot.mkdir(parents=True)
        (slot / "origin").write_text("2-b")
        (self.results / "2-b").rename(slot / "tree")
        self.assertEqual(self.wrong(), set())


if __name__ == "__main__":
    unittest.main(verbosity=0)
