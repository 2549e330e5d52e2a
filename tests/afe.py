#!/usr/bin/env python3
"""An Autotest AFE that drones beat to, written from the documented format: as strict as Django's.

    afe.py PORT DIR

Answers `shard_heartbeat` with DIR/answer.json, and writes each request to DIR/requests, one a line. An argument or a
field that an AFE does not know is an error there, and ends up in DIR/faults. DIR/lose: the answer is lost.
"""
import http.server
import json
import os
import sys

PORT, DIR = int(sys.argv[1]), sys.argv[2]
ARGUMENTS = {"shard_hostname": str, "known_job_ids": list, "known_host_ids": list, "known_host_statuses": list,
             "jobs": list, "hqes": list}


def check(arguments):
    """What is wrong with a request, as the original's signature and sanity checks would say."""
    for name in arguments:
        if name not in ARGUMENTS:
            return "TypeError: shard_heartbeat() got an unexpected keyword argument %r" % name
    for name, kind in ARGUMENTS.items():
        if not isinstance(arguments.get(name), kind):
            return "TypeError: %r is no %s" % (name, kind.__name__)
    if len(arguments["known_host_ids"]) != len(arguments["known_host_statuses"]):
        return "AssertionError: statuses"
    for kind in ("jobs", "hqes"):
        for record in arguments[kind]:
            for field, value in record.items():
                if isinstance(value, (list, dict)):
                    return "ValueError: %s holds the relation %s" % (kind, field)
            if not isinstance(record.get("id"), int):
                return "KeyError: id"
            if "shard" in record or "meta_host" in record or "job" in record:
                return "ValueError: %s holds a relation" % kind
    if len(arguments["jobs"]) > 1000:
        return "more than 1000 jobs"
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault, answer = None, None
        try:
            asked = json.loads(body)
            assert self.path == "/afe/server/noauth/rpc/?method=" + asked["method"], self.path
            assert asked["id"] == "jsonrpc" and len(asked["params"]) == 1, "the keyword object is the only element"
            (arguments,) = asked["params"]
            if asked["method"] == "shard_heartbeat":
                fault = check(arguments)
                with open(DIR + "/requests", "a") as requests:
                    requests.write(json.dumps(arguments) + "\n")
                with open(DIR + "/answer.json") as text:
                    answer = json.load(text)
            else:
                answer = []
        except Exception as error:  # whatever it is, the test is to see it
            fault = repr(error)
        if fault:
            with open(DIR + "/faults", "a") as faults:
                faults.write(fault + "\n")
        if os.path.exists(DIR + "/lose"):
            os.remove(DIR + "/lose")
            self.close_connection = True
            return
        error = {"name": "Fault", "message": fault, "traceback": ""} if fault else None
        reply = json.dumps({"result": None if fault else answer, "error": error, "id": "jsonrpc"}).encode()
        self.send_response(200)
        self.send_header("Content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
