"""Which sources made a record: today's, those of a commit, or of one that is lost."""

import json

import pyarrow.parquet as pq
import pytest

from lib import paths
from lib.machinery import machine, sources

A, B = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    "provenance, origin",
    [
        ({"sources": sources.digest(), "commit": B}, "today's sources"),
        ({"sources": "0" * 12, "commit": A}, "commit aaaaaaa"),
        ({"commit": A + "-dirty"}, "commit aaaaaaa*"),
        ({"commit": B}, "commit lost"),
        ({"commit": B + "-dirty"}, "commit lost"),
        ({"commit": "unknown"}, "commit unknown"),
        ({"commit": "not in a git checkout"}, "commit unknown"),  # as early records say it
    ],
)
def test_the_origin_of_a_record(monkeypatch, provenance, origin):
    monkeypatch.setattr(machine, "has_commit", lambda commit: commit == A)
    assert sources.origin(provenance) == origin


def test_without_git_a_commit_is_not_said_to_be_lost(monkeypatch):
    monkeypatch.setattr(machine, "has_commit", lambda commit: None)
    assert sources.origin({"commit": B}) == "commit bbbbbbb"


def test_commits_of_this_repository_are_told_from_others():
    head = machine._git("rev-parse", "HEAD")
    if machine.has_commit(head) is None:
        pytest.skip("needs the whole history of the repository")
    first = machine._git("rev-list", "--max-parents=0", "HEAD").splitlines()[0]
    assert machine.has_commit(head) and machine.has_commit(first)
    assert machine.has_commit("0" * 40) is False


def test_the_commits_of_records_made_since_hashes_are_kept_are_here():
    """History is not rewritten under a record; of earlier records some commits are lost."""
    made_by = {}
    for path in (paths.BOOK / "records").rglob("*.parquet"):
        provenance = json.loads(pq.read_schema(path).metadata[b"run.provenance"])
        if "precision" in provenance:  # which records keep for as long
            made_by[path.name] = provenance["commit"]
    lost = {name: commit for name, commit in made_by.items() if machine.has_commit(commit) is False}
    assert not lost
    assert not [name for name, commit in made_by.items() if commit.endswith("-dirty")]
