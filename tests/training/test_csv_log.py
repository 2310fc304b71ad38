"""CSV files of a run that goes on: whole rows up to the checkpoint, and never one that was not written."""

import csv
import errno
import os

import pytest

from sacae.errors import UserError
from sacae.training import csv_log, pictures
from sacae.training.csv_log import CsvLog
from tests.training.runs import rows

COLUMNS = ("agent", "env_step", "episode_return")


def write(path, steps, columns=COLUMNS):
    log = CsvLog(path, columns)
    for step in steps:
        log.write({"agent": "sac", "env_step": step, "episode_return": step / 8})
    state = log.state()
    log.close()
    return state


def go_on(path, state, columns=COLUMNS, step=99):
    """Opens the file again at the checkpoint, adds a row; returns the steps in it, and what was said."""
    said = []
    log = CsvLog(path, columns, state, said.append)
    log.write({"agent": "sac", "env_step": step, "episode_return": 1.0, "new": 7})
    log.close()
    assert b"\0" not in path.read_bytes()
    return [int(row["env_step"]) for row in rows(path)], said


@pytest.fixture
def file(tmp_path):
    return tmp_path / "train.csv"


def test_rows_from_after_the_checkpoint_go(file):
    state = write(file, [5, 10])
    before = file.read_bytes()
    write_more = CsvLog(file, COLUMNS, state)
    write_more.write({"env_step": 15})
    write_more.close()
    CsvLog(file, COLUMNS, state).close()
    assert file.read_bytes() == before


def test_rows_of_one_step_are_told_apart_by_their_number(file):
    state = write(file, [5, 5])
    more = CsvLog(file, COLUMNS, state)
    more.write({"env_step": 5})
    more.close()
    assert go_on(file, state) == ([5, 5, 99], [])


DAMAGE = {
    "emptied": (lambda content: b"", [99], "lacks 3 of the 3 rows"),
    "a lost row": (lambda content: b"".join(content.splitlines(True)[:-1]), [5, 10, 99], "lacks 1 of the 3 rows"),
    "cut in a row": (lambda content: content[:-4], [5, 10, 99], "lacks 1 of the 3 rows"),
    "cut in the header": (lambda content: content[:7], [99], "no whole table"),
    "a row of other cells": (lambda content: content.replace(b"sac,10", b"sac,x,10"), [5, 15, 99], "lacks 1 of the 3"),
    "zeros": (lambda content: content[:30] + b"\0" * (len(content) - 30), [99], "lacks 3 of the 3 rows"),
    "line ends of Unix": (lambda content: content.replace(b"\r\n", b"\n"), [5, 10, 15, 99], None),
    "a byte order mark": (lambda content: b"\xef\xbb\xbf" + content, [5, 10, 15, 99], None),
    "another number": (lambda content: content.replace(b"sac,10,1", b"sac,10,7"), [5, 10, 15, 99], "was changed since"),
    "another table": (lambda content: b"a;b\r\n1;2\r\n", [99], "no whole table"),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), [99], "no whole table"),
    "a picture": (lambda content: bytes(range(256)) * 4, [99], "no whole table"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "steps", "words"), DAMAGE.values(), ids=DAMAGE)
def test_whole_rows_are_kept_and_the_missing_ones_are_counted(damage, steps, words, file):
    state = write(file, [5, 10, 15])
    file.write_bytes(damage(file.read_bytes()))
    found, said = go_on(file, state)
    assert found == steps
    assert words in said[0] if words else not said


def test_a_file_that_was_deleted_begins_anew(file):
    state = write(file, [5, 10])
    file.unlink()
    found, (line,) = go_on(file, state)
    assert found == [99]
    assert "lacks 2 of the 2 rows" in line


def test_rows_from_after_the_checkpoint_do_not_take_the_place_of_lost_ones(file):
    state = write(file, [5, 10])
    write(file, [15, 20])
    content = file.read_bytes().splitlines(True)
    file.write_bytes(b"".join([content[0], content[1], *content[3:]]))  # the row of step 10 is lost
    found, (line,) = go_on(file, state)
    assert found == [5, 99]
    assert "lacks 1 of the 2 rows" in line


def test_a_file_that_is_no_table_is_kept_under_another_name(file):
    state = write(file, [5])
    file.write_text("mine")
    go_on(file, state)
    assert (file.parent / "train.damaged.csv").read_text() == "mine"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"])
def test_a_checkpoint_that_knows_only_the_size_keeps_what_was_there(line_end, file):
    size = write(file, [5, 10])["size"]
    more = write(file, [15])
    assert more["size"] > size
    file.write_bytes(file.read_bytes().replace(b"\r\n", line_end))
    found, _ = go_on(file, {"size": size, "env_step": 12})
    assert found == [5, 10, 99]


def test_a_checkpoint_that_knows_only_the_size_says_that_rows_are_missing(file):
    size = write(file, [5, 10])["size"]
    file.write_bytes(b"")
    found, (line,) = go_on(file, {"size": size, "env_step": 12})
    assert found == [99]
    assert "rows are missing" in line


def test_a_file_that_goes_on_keeps_its_header(file):
    state = write(file, [5])
    go_on(file, state, ("agent", "new", "env_step", "episode_return"))
    lines = file.read_text().splitlines()
    assert lines == ["agent,env_step,episode_return", "sac,5,0.625", "sac,99,1.0"]


def test_a_row_that_cannot_be_written_is_one_line(file, monkeypatch):
    log = CsvLog(file, COLUMNS)

    class Full:
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        close = flush

        def write(self, line):
            pass

    log._file = Full()
    with pytest.raises(UserError, match=r"train\.csv cannot be written: no space left on device .*; free space there"):
        log.write({"env_step": 5})
    log.close()


def test_a_file_that_is_deleted_under_a_run_is_noticed_at_the_next_row(file):
    log = CsvLog(file, COLUMNS)
    os.unlink(file)
    with pytest.raises(UserError, match=r"train\.csv cannot be written: no such file"):
        log.write({"env_step": 5})
    log.close()


def test_rows_are_on_the_disk_before_a_checkpoint_counts_on_them(file, monkeypatch):
    synced = []
    monkeypatch.setattr(csv_log, "sync_descriptor", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    state = write(file, [5, 10])
    assert synced == [state["size"]] == [file.stat().st_size]


def test_a_curve_that_cannot_be_drawn_is_a_line_and_not_the_end(short_episodes, tmp_path):
    from tests.training import counting

    training = counting.start(tmp_path / "run", num_train_steps=10)
    with open(training.run.folder / "train.csv", "a") as file:
        csv.writer(file).writerow(["not", "a", "row"])
    assert training.train()
    assert "warning: " in training.run.console.file.getvalue()
    assert "curve.png cannot be drawn" in training.run.console.file.getvalue()


def test_a_run_whose_files_lost_rows_goes_on_and_says_so(make_counting):
    first = make_counting()
    first.train()
    (first.run.folder / "eval.csv").write_bytes(b"")
    second = make_counting(resume=True, num_train_steps=40)
    assert second.train()
    assert [int(row["env_step"]) for row in rows(first.run.folder / "eval.csv")] == [24, 24, 32, 32, 40, 40]
    assert "eval.csv lacks 8 of the 8 rows" in second.run.console.file.getvalue()
    pictures.write_learning_curve(first.run.folder, "", "sac-rae")
