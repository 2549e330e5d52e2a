"""Does the checker see what is wrong? Each case doctors a tree in which all is well."""

import json
import os
import shutil
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
