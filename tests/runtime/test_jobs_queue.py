"""The queue against a list in plain Python, whatever people and workers do to it, across restarts; its history."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from kineograph.graph_runtime.jobs import order, schema, search
from kineograph.graph_runtime.jobs.attempts import Ending
from kineograph.graph_runtime.jobs.files import Found
from kineograph.graph_runtime.jobs.queue import FolderInUse, Jobs
from kineograph.graph_runtime.jobs.records import STATES, JobConflict, UnknownJob, failure

WORKFLOW = {"format": 1, "nodes": {}}


@dataclass
class Expected:
    job: str
    priority: int
    state: str = "queued"
    attempts: int = 0
    most: int = 3
    cancelling: bool = False


class QueueMachine(RuleBasedStateMachine):
    """``line`` holds the jobs that wait or run, in the order in which they were, are or will be begun."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.jobs = Jobs(self.folder)
        self.line: list[Expected] = []
        self.ended: list[Expected] = []
        self.deleted: set[str] = set()
        self.paused = False
        self.attempts = {}

    def teardown(self):
        self.jobs.close()
        shutil.rmtree(self.folder)

    def any_of(self, data, state):
        return data.draw(st.sampled_from([each for each in self.line if each.state == state]))

    def put(self, new: Expected) -> None:
        """Behind all others of its priority."""
        behind = [at for at, each in enumerate(self.line) if each.priority >= new.priority]
        self.line.insert(behind[-1] + 1 if behind else 0, new)

    def end(self, each: Expected, state: str) -> None:
        self.line.remove(each)
        each.state, each.cancelling = state, False
        self.ended.append(each)

    def died(self, each: Expected) -> None:
        """As when its process ends, or the server."""
        if each.cancelling:
            self.end(each, "cancelled")
        elif each.attempts >= each.most:
            self.end(each, "failed")
        else:
            each.state = "queued"

    @rule(priority=st.integers(-2, 2), front=st.booleans(), most=st.integers(1, 3))
    def submit(self, priority, front, most):
        info = self.jobs.submit(WORKFLOW, {}, priority=priority, front=front, max_attempts=most)
        new = Expected(info.id, priority, most=most)
        if front:
            new.priority = max([priority, *(each.priority for each in self.line)])
            self.line.insert(0, new)
        else:
            self.put(new)

    @precondition(lambda self: any(each.state == "queued" for each in self.line))
    @rule(data=st.data())
    def move(self, data):
        one, other = self.any_of(data, "queued"), self.any_of(data, "queued")
        self.jobs.move(one.job, other.job)
        if one is not other:
            self.line.remove(one)
            self.line.insert(self.line.index(other), one)
            one.priority = other.priority

    @precondition(lambda self: any(each.state == "queued" for each in self.line))
    @rule(data=st.data())
    def move_to_the_end(self, data):
        one = self.any_of(data, "queued")
        self.jobs.move(one.job, None)
        self.line.remove(one)
        one.priority = min((each.priority for each in self.line), default=one.priority)
        self.line.append(one)

    @precondition(lambda self: any(each.state == "queued" for each in self.line))
    @rule(data=st.data(), priority=st.integers(-2, 2))
    def change_priority(self, data, priority):
        one = self.any_of(data, "queued")
        self.jobs.change(one.job, priority=priority)
        if priority != one.priority:
            self.line.remove(one)
            one.priority = priority
            self.put(one)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def cancel(self, data):
        one = data.draw(st.sampled_from(self.line))
        self.jobs.cancel(one.job)
        if one.state == "queued":
            self.end(one, "cancelled")
        else:
            one.cancelling = True

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def retry(self, data):
        old = data.draw(st.sampled_from(self.ended))
        info = self.jobs.retry(old.job)
        self.put(Expected(info.id, old.priority, most=old.most))

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def delete_or_cancel_what_ended(self, data):
        old = data.draw(st.sampled_from(self.ended))
        assert self.jobs.cancel(old.job).state == old.state
        self.jobs.delete(old.job)
        self.ended.remove(old)
        self.deleted.add(old.job)

    @rule()
    def begin_the_next(self):
        waiting = self.jobs.attempts.waiting(3)
        queued = [] if self.paused else [each for each in self.line if each.state == "queued"]
        assert [each.job for each in waiting] == [each.job for each in queued[:3]]
        if queued:
            begun = self.jobs.attempts.begin(queued[0].job)
            assert begun is not None
            queued[0].state, queued[0].attempts = "running", queued[0].attempts + 1
            assert begun.attempt == queued[0].attempts
            self.attempts[begun.job] = begun
            assert self.jobs.attempts.begin(begun.job) is None  # nobody has it twice
            with pytest.raises(JobConflict):
                self.jobs.delete(begun.job)
            with pytest.raises(JobConflict):
                self.jobs.move(begun.job, None)

    @precondition(lambda self: any(each.state == "running" for each in self.line))
    @rule(data=st.data(), how=st.sampled_from(["done", "failed", "died", "given back"]))
    def end_one(self, data, how):
        one = self.any_of(data, "running")
        attempt = self.attempts[one.job]
        if how == "died":
            self.jobs.attempts.again(attempt, "Its process ended.")
            self.died(one)
        elif how == "given back":
            self.jobs.attempts.give_back(attempt)
            if one.cancelling:
                self.end(one, "cancelled")
            else:
                one.state, one.attempts = "queued", one.attempts - 1
        else:
            self.jobs.attempts.end(attempt, Ending(state=how))
            self.end(one, how)

    @rule(paused=st.booleans())
    def pause(self, paused):
        (self.jobs.pause if paused else self.jobs.resume)()
        self.paused = paused

    @rule()
    def restart(self):
        last = self.jobs.last_seq()
        self.jobs.close()
        self.jobs = Jobs(self.folder)
        assert self.jobs.last_seq() > last
        for each in [each for each in self.line if each.state == "running"]:
            self.died(each)

    @invariant()
    def it_is_as_the_list(self):
        queued = [each for each in self.line if each.state == "queued"]
        page = self.jobs.list(states=["queued"], order="queue", limit=1000)
        assert [(info.id, info.position, info.priority) for info in page.jobs] == [
            (each.job, at, each.priority) for at, each in enumerate(queued)
        ]
        for each in [*self.line, *self.ended]:
            info = self.jobs.get(each.job)
            assert (info.state, info.attempts, info.cancelling) == (each.state, each.attempts, each.cancelling)
        states = [each.state for each in [*self.line, *self.ended]]
        assert self.jobs.counts() == {state: states.count(state) for state in STATES}
        assert self.jobs.paused is self.paused
        for job in self.deleted:
            with pytest.raises(UnknownJob, match=f"There is no job {job}"):
                self.jobs.get(job)


def test_the_queue_is_as_a_list_whatever_people_and_workers_do():
    few = settings(max_examples=15, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(QueueMachine, settings=few)


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path)
    yield made
    made.close()


def ended(jobs: Jobs, job: str, ending: Ending) -> None:
    attempt = jobs.attempts.begin(job)
    assert attempt is not None
    jobs.attempts.end(attempt, ending)


def test_a_hundred_moves_between_two_neighbours_find_room(jobs, monkeypatch):
    monkeypatch.setattr(order, "GAP", 4)  # room for two
    first, second, *others = [jobs.submit(WORKFLOW, {}).id for _ in range(30)]
    for other in others:
        jobs.move(other, second)
    waiting = [info.id for info in jobs.list(order="queue").jobs]
    assert waiting == [first, *others, second]


def test_what_was_asked_for_comes_back_to_the_letter(jobs):
    workflow = {
        "format": 1,
        "about": "à la 雨",
        "nodes": {"a": {"type": "x@1", "params": {"seed": 2**53 + 1, "f": 0.1}}},
    }
    given = jobs.submit(workflow, {"prompt": "a \"red\" ball\n"}, outputs=["v"], title="t", tags=["b", "a", "b", " "],
                        client="c", packs=["p"], origin={"from": "editor"})  # fmt: skip
    info = jobs.get(given.id)
    assert (info.workflow, info.inputs, info.wanted, info.pack_folders) == (
        workflow, {"prompt": "a \"red\" ball\n"}, ("v",), ("p",)
    )  # fmt: skip
    assert (info.tags, info.title, info.client, info.origin) == (("b", "a"), "t", "c", {"from": "editor"})
    again = jobs.retry(given.id)
    assert (again.workflow, again.inputs, again.wanted) == (info.workflow, info.inputs, info.wanted)
    assert again.origin == {"from": "editor", "retry_of": given.id}
    json.dumps(again.to_json(), allow_nan=False)
    assert "workflow" not in jobs.list().jobs[0].to_json()


def test_what_is_no_json_or_may_never_begin_is_refused(jobs):
    for wrong in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(ValueError, match="A job is JSON, this one is not"):
            jobs.submit(WORKFLOW, wrong)
    with pytest.raises(ValueError, match="max_attempts is 0"):
        jobs.submit(WORKFLOW, {}, max_attempts=0)
    assert jobs.counts()["queued"] == 0


@pytest.mark.parametrize("fts5", [True, False])
def test_search_finds_what_reading_every_text_finds(tmp_path, monkeypatch, fts5):
    if fts5 and not search.has_fts5(sqlite3.connect(":memory:")):
        pytest.skip("this SQLite has no FTS5")
    monkeypatch.setattr(search, "has_fts5", lambda database: fts5)
    jobs = Jobs(tmp_path)
    pick = random.Random(0)
    words = ["ball", "Balloon", "雨の日", "%", "_x", 'say "hi"', "ÄRGER", "to", "AND", "1.5", "a*"]
    texts: dict[str, str] = {}
    for _ in range(60):
        prompt, title = " ".join(pick.choices(words, k=3)), pick.choice(words)
        info = jobs.submit(WORKFLOW, {"prompt": prompt, "steps": 3}, title=title)
        texts[info.id] = f"{title} {prompt}".casefold()
    changed = jobs.list().jobs[0].id
    jobs.change(changed, title="something new")
    texts[changed] = f"something new {texts[changed].partition(' ')[2]}"
    jobs.delete(jobs.list(order="oldest").jobs[0].id)
    for asked in [*words, "ball to", "oon", "の日", '"', "nothing", "ärg", "OR ball"]:
        expected = [job for job in (info.id for info in jobs.list(limit=100).jobs)
                    if all(word in texts[job] for word in asked.casefold().split())]  # fmt: skip
        page = jobs.list(search=asked, limit=100)
        assert ([info.id for info in page.jobs], page.total) == (expected, len(expected))
    jobs.close()


@pytest.mark.parametrize("kind", ["newest", "oldest", "longest", "queue"])
def test_pages_show_each_job_once_also_while_others_come(jobs, kind):
    made = [jobs.submit(WORKFLOW, {}, priority=at % 3) for at in range(23)]
    for info in made[:7]:
        ended(jobs, info.id, Ending(state="done"))
    everything = [info.id for info in jobs.list(order=kind, limit=100).jobs]
    seen, cursor = [], ""
    while cursor or not seen:
        page = jobs.list(order=kind, limit=5, cursor=cursor)
        seen += [info.id for info in page.jobs]
        assert page.total >= 23
        if len(seen) == 10:
            jobs.submit(WORKFLOW, {}, priority=9)
        cursor = page.next
    assert [job for job in seen if job in everything] == everything
    assert len(set(seen)) == len(seen)
    with pytest.raises(ValueError, match="no cursor of the order"):
        jobs.list(order=kind, cursor="[1,2,3,4]")
    for wrong in (
        "'; DROP TABLE jobs; --",
        json.dumps([10**30] * (1 + ("longest queue".find(kind) >= 0))),
        "[NaN]",
        "{}",
    ):
        with pytest.raises(ValueError, match="no cursor of the order"):
            jobs.list(order=kind, cursor=wrong)
    assert jobs.list(search="word " * 5000).total == 0


def test_states_tags_and_stars_filter(jobs):
    one, two = jobs.submit(WORKFLOW, {}, tags=["a", "b"]), jobs.submit(WORKFLOW, {}, tags=["b"])
    jobs.change(two.id, starred=True)
    ended(jobs, one.id, Ending(state="failed", error=failure("No such colour.", path="x")))
    asked = ({"tag": "a"}, {"starred": True}, {"starred": False}, {"states": ["failed"]}, {"search": "colour"})
    found = [jobs.list(**by).jobs for by in asked]
    assert [[info.id for info in page] for page in found] == [[one.id], [two.id], [one.id], [one.id], [one.id]]
    jobs.change(one.id, tags=[])
    assert jobs.list(tag="a").total == 0
    assert found[4][0].error == failure("No such colour.", path="x")


def test_files_values_and_facts_stay_with_the_job_and_go_with_it(jobs, tmp_path):
    info = jobs.submit(WORKFLOW, {})
    (tmp_path / "outputs" / info.id).mkdir(parents=True)
    (tmp_path / "outputs" / info.id / "a.png").write_bytes(b"png")
    ended(jobs, info.id, Ending(state="done", values={"y": 3}, files=[Found("a.png", "w", "image/png", 3, "d")]))
    (file,) = jobs.get(info.id).outputs
    assert (file.name, file.node, file.media_type, file.nbytes, file.digest) == ("a.png", "w", "image/png", 3, "d")
    assert file.path.read_bytes() == b"png"
    jobs.note_facts(file.id, {"width": 64})
    assert jobs.file(file.id).to_json() | {"width": 64} == jobs.list().jobs[0].to_json()["outputs"][0]
    assert jobs.get(info.id).values == {"y": 3}
    jobs.delete(info.id)
    assert not file.path.parent.exists()
    with pytest.raises(UnknownJob, match="There is no file"):
        jobs.file(file.id)


def test_numbers_to_plot_outlive_an_attempt_and_its_steps_are_not_doubled(jobs):
    job = jobs.submit(WORKFLOW, {}).id
    for steps in (range(5), range(3, 8)):
        attempt = jobs.attempts.begin(job)
        for step in steps:
            metric = {"event": "Metric", "path": "l", "name": "loss", "step": step, "value": 0.5}
            jobs.event_log.tell(job, attempt.number, metric)
        jobs.attempts.again(attempt, "Its process ended.")
    assert jobs.metrics(job) == {"l loss": [(step, 0.5) for step in range(8)]}


def test_a_listener_that_raises_hurts_nobody(jobs, capsys):
    heard = []
    jobs.event_log.subscribe(lambda logged: 1 / 0)
    jobs.event_log.subscribe(heard.append)
    for _ in range(2):
        jobs.submit(WORKFLOW, {})
    assert [each.event["event"] for each in heard].count("JobQueued") == 2
    assert capsys.readouterr().err.count("ZeroDivisionError") == 1


def test_a_deletion_that_was_cut_off_is_finished_at_the_next_start(tmp_path):
    jobs = Jobs(tmp_path)
    info, other = jobs.submit(WORKFLOW, {}), jobs.submit(WORKFLOW, {})
    for job in (info.id, other.id):
        (tmp_path / "outputs" / job).mkdir(parents=True)
    jobs._empty_trash = lambda: None
    jobs.delete(info.id)
    jobs.close()
    Jobs(tmp_path).close()
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [other.id]


def test_workflows_are_kept_once_and_go_with_their_last_job(jobs, tmp_path):
    first, second = jobs.submit(WORKFLOW, {"a": 1}), jobs.submit(WORKFLOW, {"a": 2})
    database = sqlite3.connect(tmp_path / "jobs.sqlite")
    counted = []
    for job in (first.id, second.id):
        counted.append(database.execute("SELECT count(*) FROM workflows").fetchone()[0])
        jobs.delete(job)
    assert [*counted, database.execute("SELECT count(*) FROM workflows").fetchone()[0]] == [1, 1, 0]
    database.close()


def test_one_process_has_the_folder_and_a_newer_queue_is_left_alone(tmp_path):
    jobs = Jobs(tmp_path)
    with pytest.raises(FolderInUse, match="Another server has the queue"):
        Jobs(tmp_path)
    jobs.close()
    database = sqlite3.connect(tmp_path / "jobs.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    for _ in range(2):  # the folder is free again after a refusal
        with pytest.raises(ValueError, match=r"format 99, this one reads up to \d+"):
            Jobs(tmp_path)


def test_a_migration_is_done_whole_or_not_at_all(monkeypatch, tmp_path):
    jobs = Jobs(tmp_path)
    job = jobs.submit(WORKFLOW, {}).id
    jobs.close()
    today = len(schema.MIGRATIONS)
    for step, ends in (("CREATE TABLE more (x); CREATE TABLE no AS SELECT * FROM missing", False), ("SELECT 1", True)):
        with monkeypatch.context() as later:
            later.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
            with contextlib.nullcontext() if ends else pytest.raises(sqlite3.OperationalError, match="no such table"):
                Jobs(tmp_path).close()
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (today + ends,)
            assert database.execute("SELECT id FROM jobs").fetchall() == [(job,)]
            assert not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall()


def test_the_queue_is_there_in_a_moment_and_loads_nothing_heavy(tmp_path):
    asked = (
        "import sys; from pathlib import Path; from kineograph.graph_runtime.jobs.queue import Jobs; "
        "from kineograph.graph_runtime.jobs.dispatch import Dispatcher; jobs = Jobs(Path(sys.argv[1])); "
        "dispatcher = Dispatcher(jobs); dispatcher.start(); dispatcher.close(); jobs.close(); "
        "print(sorted({'torch', 'numpy', 'fastapi', 'networkx', 'av', 'kineograph.nodes'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", asked, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_who_is_cancelled_while_the_dispatcher_ends_does_not_wait_again(jobs):
    job = jobs.submit({}, {}).id
    attempt = jobs.attempts.begin(job)
    jobs.cancel(job)
    jobs.attempts.give_back(attempt)
    assert (jobs.get(job).state, jobs.get(job).cancelling) == ("cancelled", False)
    assert jobs.events(job)[-1].event["event"] == "JobEnded"


def test_a_zero_byte_in_a_search_only_parts_words(jobs):
    jobs.submit({}, {"prompt": "a red ball"})
    assert jobs.list(search="red\0ball").total == 1
    assert jobs.list(search="red\0blue").total == 0
