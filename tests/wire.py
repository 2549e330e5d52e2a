#!/usr/bin/env python3
"""An Autotest shard client, as far as the wire goes, written from the documented format: what a hub must satisfy.

    wire.py URL ADMIN_TOKEN

Shares no code with the product. Each case makes its own drones, boards and hosts, so that a base may be used twice.
"""
import gzip
import hashlib
import json
import sys
import urllib.error
import urllib.request
import uuid

URL, ADMIN = sys.argv[1], sys.argv[2]
LOCAL_JOB = {"id", "owner", "name", "priority", "control_file", "control_type", "created_on", "synch_count",
             "timeout", "timeout_mins", "max_runtime_hrs", "max_runtime_mins", "run_verify", "run_reset",
             "email_list", "reboot_before", "reboot_after", "parse_failed_repair", "test_retry", "require_ssp"}
LOCAL_HQE = {"id", "host_id", "status", "active", "complete", "deleted", "aborted", "execution_subdir",
             "started_on", "finished_on"}


def post(body, token=None, headers=()):
    """HTTP status, and the answer's JSON or text."""
    request = urllib.request.Request(URL, data=body, method="POST", headers=dict(headers))
    if token:
        request.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text, encoding = answer.status, answer.read(), answer.headers.get("Content-Encoding")
    except urllib.error.HTTPError as error:
        status, text, encoding = error.code, error.read(), error.headers.get("Content-Encoding")
    if encoding == "gzip":
        text = gzip.decompress(text)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def call(method, token=ADMIN, **arguments):
    body = json.dumps({"method": method, "params": [arguments], "id": "jsonrpc"}).encode()
    status, answer = post(body, token)
    assert answer["id"] == "jsonrpc", answer
    return status, answer


def result(method, token=ADMIN, **arguments):
    status, answer = call(method, token, **arguments)
    assert status == 200 and answer["error"] is None, (method, arguments, answer)
    return answer["result"]


def error(method, token=ADMIN, **arguments):
    status, answer = call(method, token, **arguments)
    assert answer["result"] is None and answer["error"]["message"], (method, answer)
    assert set(answer["error"]) == {"name", "message", "traceback"}
    return status, answer["error"]


class Shard:
    """A drone with a board of its own."""

    def __init__(self):
        self.name = "shard-" + uuid.uuid4().hex[:8]
        self.board = "board:" + self.name
        self.token = result("add_shard", hostname=self.name, labels=[self.board])["token"]

    def arguments(self, **more):
        arguments = {"shard_hostname": self.name, "known_job_ids": [], "known_host_ids": [],
                     "known_host_statuses": [], "jobs": [], "hqes": []}
        arguments.update(more)
        return arguments

    def beat(self, **more):
        return result("shard_heartbeat", self.token, **self.arguments(**more))

    def host(self, **more):
        name = "host-" + uuid.uuid4().hex[:8]
        return name, result("add_host", hostname=name, labels=[self.board], record=more)

    def job(self, **more):
        arguments = {"name": "dummy", "meta_hosts": [self.board]}
        arguments.update(more)
        return result("create_job", **arguments)


def ids(records):
    return sorted(record["id"] for record in records)


def uploaded(job, **hqe):
    """A finished job as a shard sends it: local fields, no relations."""
    own = {key: value for key, value in job.items() if key in LOCAL_JOB}
    entries = []
    for entry in job["hostqueueentry_set"]:
        entry = {key: value for key, value in entry.items() if key in LOCAL_HQE}
        entry.update(status="Completed", active=False, complete=True, finished_on="2014-09-23T16:10:00")
        entry.update(hqe)
        entries.append(entry)
    return own, entries


def case_a_drone_must_be_known():
    status, fault = error("shard_heartbeat", **Shard().arguments(shard_hostname="nobody"))
    assert (status, fault["name"]) == (200, "DoesNotExist"), fault


def case_records_have_the_documented_shape():
    shard = Shard()
    shard.host()
    parent = result("create_job", name="suite", meta_hosts=["board:elsewhere"], keyvals={"suite_min_duts": "2"})
    job = shard.job(dependencies=[shard.board], keyvals={"suite": "dummy"}, parent_job_id=parent, control_file="x")
    answer = shard.beat()
    assert {"hosts", "jobs", "suite_keyvals", "incorrect_host_ids"} <= set(answer), answer
    (host,), (given,) = answer["hosts"], answer["jobs"]
    assert {"id", "hostname", "status", "invalid", "locked", "leased", "dirty", "protection", "lock_time",
            "hostattribute_set", "shard", "aclgroup_set", "labels"} <= set(host), host
    assert host["shard"]["hostname"] == shard.name and host["labels"][0]["name"] == shard.board
    assert LOCAL_JOB <= set(given) and given["id"] == job and given["control_file"] == "x", given
    assert {"dependency_labels", "hostqueueentry_set", "jobkeyval_set", "shard"} <= set(given)
    assert given["jobkeyval_set"][0]["key"] == "suite" and given["jobkeyval_set"][0]["job_id"] == job
    (entry,) = given["hostqueueentry_set"]
    assert LOCAL_HQE | {"meta_host"} <= set(entry) and entry["meta_host"]["name"] == shard.board, entry
    assert entry["host_id"] is None and entry["status"] == "Queued"
    (keyval,) = answer["suite_keyvals"]
    assert (keyval["job_id"], keyval["key"], keyval["value"]) == (parent, "suite_min_duts", "2")


def case_jobs_are_given_until_they_are_known():
    shard, other = Shard(), Shard()
    by_board, by_dependency = shard.job(), shard.job(meta_hosts=["board:none"], dependencies=[shard.board])
    name, _ = shard.host()
    by_host = result("create_job", name="dummy", hosts=[name])
    others = other.job()
    assert ids(shard.beat()["jobs"]) == [by_board, by_dependency, by_host]
    assert ids(shard.beat(known_job_ids=[by_board])["jobs"]) == [by_dependency, by_host]
    assert ids(shard.beat(known_job_ids=[by_board, by_dependency, by_host])["jobs"]) == []
    assert ids(other.beat()["jobs"]) == [others]


def case_an_aborted_job_is_given_again_so_that_it_is_aborted_there():
    shard = Shard()
    first, second = shard.job(), shard.job()
    shard.beat()
    result("abort_jobs", id__in=[second])
    (given,) = shard.beat(known_job_ids=[first, second])["jobs"]
    assert given["id"] == second and given["hostqueueentry_set"][0]["aborted"] is True, given
    # One that nobody has ends at once.
    third = shard.job()
    result("abort_jobs", id__in=[third])
    assert third not in ids(shard.beat(known_job_ids=[first, second])["jobs"])
    assert [job["id"] for job in result("get_jobs", id__in=[third], finished=True)] == [third]


def case_finished_jobs_are_taken_and_never_given_again():
    shard = Shard()
    job = shard.job()
    (given,) = shard.beat()["jobs"]
    own, entries = uploaded(given, execution_subdir="host1")
    assert ids(shard.beat(jobs=[own], hqes=entries)["jobs"]) == []
    assert result("get_jobs", id__in=[str(job)], finished=True)[0]["id"] == job
    (entry,) = result("get_host_queue_entries", job_id__in=[str(job)], finished_on__isnull=False)
    assert entry["job"]["id"] == job and entry["finished_on"] == "2014-09-23 16:10:00", entry
    assert entry["status"] == "Completed" and entry["execution_subdir"] == "host1"
    # The same once more changes nothing.
    shard.beat(jobs=[own], hqes=entries)
    assert len(result("get_host_queue_entries", job_id__in=[job])) == 1


def case_a_job_of_another_drone_is_not_taken_and_the_rest_is():
    shard, other = Shard(), Shard()
    shard.job()
    other.job()
    (mine,), (theirs,) = shard.beat()["jobs"], other.beat()["jobs"]
    jobs, hqes = zip(uploaded(mine), uploaded(theirs))
    shard.beat(jobs=list(jobs), hqes=[entry for some in hqes for entry in some])
    finished = lambda job: bool(result("get_jobs", id__in=[job["id"]], finished=True))
    assert finished(mine) and not finished(theirs)


def case_what_is_not_known_does_not_fail_a_beat():
    shard = Shard()
    job = shard.job()
    (given,) = shard.beat()["jobs"]
    own, entries = uploaded(given)
    strange = dict(own, id=job + 10**9, created_on="2010-01-01T00:00:00")
    orphan = dict(entries[0], id=entries[0]["id"] + 10**9)
    answer = shard.beat(jobs=[own, strange], hqes=entries + [orphan], known_host_ids=[10**12],
                        known_host_statuses=["Ready"])
    assert result("get_jobs", id__in=[job], finished=True), "the good record was not taken"
    assert answer["incorrect_host_ids"] == [], "a base that lost a host took it away"


def case_an_entry_is_taken_only_with_its_job():
    shard = Shard()
    job = shard.job()
    (given,) = shard.beat()["jobs"]
    _, entries = uploaded(given)
    shard.beat(known_job_ids=[job], hqes=entries)
    assert not result("get_jobs", id__in=[job], finished=True)


def case_hosts_are_given_once_and_statuses_taken():
    shard, other = Shard(), Shard()
    name, host = shard.host()
    _, leased = shard.host(leased=True)
    assert ids(shard.beat()["hosts"]) == [host]
    assert ids(shard.beat()["hosts"]) == [host], "it is not known yet"
    assert ids(shard.beat(known_host_ids=[host], known_host_statuses=["Running"])["hosts"]) == []
    assert result("get_hosts", id__in=[host])[0]["status"] == "Running"
    assert result("get_hosts", id__in=[leased])[0]["shard"] is None
    # Two drones' labels: the first one has it.
    result("add_host", hostname=name, labels=[other.board])
    assert ids(other.beat()["hosts"]) == []
    assert other.beat(known_host_ids=[host], known_host_statuses=["Ready"])["incorrect_host_ids"] == [host]


def case_boards_are_given_and_taken():
    shard, other = Shard(), Shard()
    _, host = shard.host()
    shard.beat()
    _, fault = error("add_board_to_shard", hostname=other.name, label=shard.board)
    assert "another drone" in fault["message"], fault
    _, fault = error("add_board_to_shard", hostname=other.name, label="pool:bvt")
    assert "board:" in fault["message"], fault
    result("remove_board_from_shard", hostname=shard.name, label=shard.board)
    assert shard.beat(known_host_ids=[host], known_host_statuses=["Ready"])["incorrect_host_ids"] == [host]
    result("add_board_to_shard", hostname=other.name, label=shard.board)
    assert ids(other.beat()["hosts"]) == [host]
    job = other.job(meta_hosts=[shard.board])
    assert ids(other.beat(known_host_ids=[host])["jobs"]) == [job]
    result("delete_shard", hostname=other.name)
    assert call("shard_heartbeat", other.token, **other.arguments())[0] in (200, 401)
    heir = Shard()
    result("add_board_to_shard", hostname=heir.name, label=shard.board)
    answer = heir.beat()
    assert (ids(answer["hosts"]), ids(answer["jobs"])) == ([host], [job]), "they were not free"


def case_at_most_a_thousand_jobs_are_given_at_once():
    shard = Shard()
    made = result("create_jobs", name="many", meta_hosts=[shard.board], count=1500)
    first = ids(shard.beat()["jobs"])
    second = ids(shard.beat(known_job_ids=first)["jobs"])
    assert (len(first), len(second)) == (1000, 500) and sorted(first + second) == made


def case_special_tasks_can_be_asked_for():
    shard = Shard()
    name, host = shard.host()
    task = result("create_special_task", hostname=name, task="Repair")
    (found,) = result("get_special_tasks", id__in=[str(task)])
    assert found["task"] == "Repair" and found["host"]["hostname"] == name and found["time_finished"] is None
    assert result("get_special_tasks", id__in=[task], is_complete=True) == []
    result("finish_special_task", id=task, success=True)
    (found,) = result("get_special_tasks", id__in=[task], is_complete=True)
    assert found["success"] is True and found["time_finished"], found
    assert error("create_special_task", hostname=name, task="Dance")[1]["name"] == "ValidationError"


def case_a_drone_speaks_for_itself_only():
    shard, other = Shard(), Shard()
    body = lambda name: json.dumps({"method": "shard_heartbeat", "params": [shard.arguments(shard_hostname=name)],
                                    "id": "jsonrpc"}).encode()
    assert post(body(shard.name), "wrong" * 10)[0] == 401
    assert post(body(shard.name))[0] == 401
    assert post(body(other.name), shard.token)[0] == 401
    assert post(body(shard.name), shard.token)[0] == 200
    for method in ("add_shard", "create_job", "delete_shard", "abort_jobs"):
        assert call(method, shard.token, hostname="x", name="x")[0] == 401
    second = result("rotate_token", hostname=shard.name)["token"]
    assert post(body(shard.name), shard.token)[0] == 200 == post(body(shard.name), second)[0]
    third = result("rotate_token", hostname=shard.name)["token"]
    assert post(body(shard.name), third)[0] == 200


def case_bad_input_is_refused_whole():
    shard = Shard()
    job = shard.job()
    (given,) = shard.beat()["jobs"]
    own, entries = uploaded(given)
    good = dict(jobs=[own], hqes=entries)
    for bad in (
        dict(good, jobs=[own, own]),
        dict(good, jobs=[dict(own, labels=[1])]),
        dict(good, jobs=[dict(own, id="x")]),
        dict(good, jobs=[dict(own, id=-1)]),
        dict(good, jobs="all"),
        dict(good, hqes=[7]),
        dict(good, known_job_ids=["x"]),
        dict(good, known_host_ids=[1, 2], known_host_statuses=["Ready"]),
        dict(good, known_host_ids=[1], known_host_statuses=[7]),
        dict(good, shard_hostname=None),
    ):
        status, answer = call("shard_heartbeat", shard.token, **shard.arguments(**bad))
        assert status == 200 and answer["error"], (bad, answer)
        assert not result("get_jobs", id__in=[job], finished=True), bad
    for body, expected in (
        (b"", 400), (b"{", 400), (b"[" * 5000, 400), (b"\xff\xfe", 400), (b"[]", 200), (b"{}", 200),
        (b'{"method": 7, "params": [{}]}', 200), (b'{"method": "get_jobs", "params": {}}', 200),
        (b'{"method": "get_jobs", "params": [7]}', 200), (b'{"method": "no_such", "params": [{}]}', 200),
        (b'{"method": "get_jobs", "params": [{"id__in": "x"}]}', 200),
        (b'{"method": "get_jobs", "params": [{"evil__regex": "x"}]}', 200),
    ):
        status, answer = post(body, ADMIN)
        assert status == expected and answer["error"]["message"], (body[:40], status, answer)
    assert post(b"x" * (70 << 20), ADMIN)[0] == 413
    bomb = gzip.compress(b" " * (80 << 20))
    assert post(bomb, ADMIN, {"Content-Encoding": "gzip"}.items())[0] == 413
    assert post(b"no gzip", ADMIN, {"Content-Encoding": "gzip"}.items())[0] == 400
    shard.beat(**good)
    assert result("get_jobs", id__in=[job], finished=True)


def case_names_from_outside_are_data():
    shard = Shard()
    name = "x'; DROP TABLE jobs; --"
    job = shard.job(name=name, keyvals={"a'b": "ü\u0000\u202e"}, new_field="ignored")
    (given,) = shard.beat()["jobs"]
    assert (given["id"], given["name"]) == (job, name)


def case_fields_that_are_not_known_survive():
    shard = Shard()
    job = shard.job()
    (given,) = shard.beat()["jobs"]
    own, entries = uploaded(given, new_hqe_field=7)
    shard.beat(jobs=[dict(own, new_job_field="kept")], hqes=entries)
    assert result("get_jobs", id__in=[job])[0]["new_job_field"] == "kept"
    assert result("get_host_queue_entries", job_id__in=[job])[0]["new_hqe_field"] == 7


def case_what_the_base_forgot_comes_back_from_its_drone():
    shard = Shard()
    job = shard.job()
    (given,) = shard.beat()["jobs"]
    own, entries = uploaded(given)
    forgotten, entry = dict(own, id=job + 10**6), dict(entries[0], id=entries[0]["id"] + 10**6)
    told = {"hqe_jobs": {str(entry["id"]): forgotten["id"]}}
    answer = shard.beat(known_job_ids=[job, forgotten["id"] + 1], dronekeeper=told)
    assert answer["dronekeeper"]["unknown_jobs"] == [forgotten["id"] + 1], answer["dronekeeper"]
    shard.beat(known_job_ids=[job], jobs=[forgotten], hqes=[entry], dronekeeper=told)
    assert result("get_jobs", id__in=[forgotten["id"]], finished=True), "it was not taken back"
    assert shard.job() > forgotten["id"] + 1, "a number that a drone has was given out"
    # Another job of a number that is there is not it.
    own["created_on"] = "2010-01-01T00:00:00"
    answer = shard.beat(jobs=[own], hqes=entries, dronekeeper={})
    (aside, _) = answer["dronekeeper"]["aside"]
    assert (aside["kind"], aside["id"]) == ("job", job) and "created" in aside["why"], aside
    assert not result("get_jobs", id__in=[job], finished=True)


def case_a_digest_stands_for_lists_that_both_sides_know():
    digest = lambda lines: hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
    shard = Shard()
    jobs, (_, host) = [shard.job(), shard.job()], shard.host()
    shard.beat()
    said = lambda jobs, hosts: {"known": {"jobs": digest(map(str, jobs)), "hosts": digest(hosts)}}
    known = said(jobs, ["%d Ready" % host])
    answer = shard.beat(dronekeeper=known)
    assert not answer["dronekeeper"].get("list") and (answer["jobs"], answer["hosts"]) == ([], []), answer
    # What is new is given all the same.
    third = shard.job()
    assert ids(shard.beat(dronekeeper=known)["jobs"]) == [third]
    # The answer was lost, or a base was restored: whole lists are asked for, and nothing is concluded.
    answer = shard.beat(dronekeeper=known)
    assert answer["dronekeeper"]["list"] is True and answer["jobs"] == [] and answer["incorrect_host_ids"] == []
    assert shard.beat(dronekeeper=said(jobs, ["%d Running" % host]))["dronekeeper"]["list"] is True
    assert shard.beat(dronekeeper={"known": 7})["dronekeeper"]["list"] is True
    assert ids(shard.beat(known_job_ids=jobs)["jobs"]) == [third]
    # A finished job is taken before the digests are compared.
    (given,) = shard.beat(known_job_ids=jobs)["jobs"]
    own, entries = uploaded(given)
    answer = shard.beat(jobs=[own], hqes=entries, dronekeeper=known)
    assert not answer["dronekeeper"].get("list"), answer


if __name__ == "__main__":
    for name, case in list(globals().items()):
        if name.startswith("case_"):
            case()
            print("ok", name[5:])
