#!/usr/bin/env python3
"""Watches a drone's status page in a real headless Chromium while jobs come, fail and go.

    page.py URL DRONE_DIR

The drone's results are in DRONE_DIR/results, its store is the directory DRONE_DIR/offloaded: while a file stands in its
place, the store fails.
"""
import os
import sys
import time
import urllib.error
import urllib.request

from chromium import DESKTOP, PHONE, Browser, until

URL, PLACE = sys.argv[1].rstrip("/"), sys.argv[2]
STORE = os.path.join(PLACE, "offloaded")
EVIL = "101-<img src=x onerror=document.title='taken'>"


def finish(name):
    job = os.path.join(PLACE, "results", name)
    os.makedirs(job)
    with open(os.path.join(job, "status.log"), "w") as file:
        file.write("END GOOD\n")
    with open(os.path.join(job, ".ready_for_offload"), "w") as file:
        file.write("1700000000\n")


def status_of(path, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(URL + path, headers=headers), timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


for path in ("/", "/page.js", "/api/v1/events", "/api/v1/history", "/api/v1/status"):
    assert status_of(path) == 200, path
    assert status_of(path, Host="drone.example.com") == 403, path
    assert status_of(path, Origin="http://evil.example.com") == 403, path
print("ok other hosts and origins are refused")

browsers = [(name, Browser(width, height, dark)) for name, width, height, dark in (DESKTOP, PHONE)]
try:
    for name, browser in browsers:
        browser.tell("POST", "/url", {"url": URL + "/"})
        browser.words = lambda browser=browser: browser.run("return document.body.innerText")
        browser.rows = lambda table, browser=browser: browser.run(
            "return [...document.querySelectorAll('#%s tbody tr')].map((row) => row.innerText)" % table)
        until(name + ": the drone is shown", lambda: "healthy, up" in browser.words())
        assert "nothing" in browser.rows("problems")[:1] or "nothing" in browser.words()
    os.makedirs(STORE, exist_ok=True)
    os.rename(STORE, STORE + ".away")
    open(STORE, "w").close()
    finish(EVIL)
    for name, browser in browsers:
        until(name + ": the job appears", lambda: any(EVIL in row for row in browser.rows("failing")))
        row = next(row for row in browser.rows("failing") if EVIL in row)
        assert "failed" in row and ("offloaded" in row or "directory" in row.lower()), row
        assert browser.run("return document.images.length") == 0, "a file name became markup"
        assert "taken" not in browser.run("return document.title"), "a file name ran a script"
        until(name + ": the trouble is shown", lambda: "DEGRADED" in browser.words())
    print("ok a failing job is shown with its error, and its name runs no script")
    os.remove(STORE)
    os.rename(STORE + ".away", STORE)
    for name, browser in browsers:
        until(name + ": the job goes", lambda: not any(EVIL in row for row in browser.rows("failing")), 600)
        until(name + ": all is well again", lambda: "healthy" in browser.words())
        wide = browser.run("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], "%s: the page is %d wide, the screen %d" % (name, *wide)
        assert browser.run("return document.querySelectorAll('#tree tbody tr').length") > 5
        until(name + ": the plots are drawn", lambda: browser.run("return document.querySelectorAll('#day polyline').length") == 2)
        # A stronger policy than its own script could break: nothing may be put in and run.
        browser.run("const s = document.createElement('script'); s.textContent = 'document.title = \"taken\"'; document.body.append(s)")
        time.sleep(0.2)
        assert browser.run("return document.title") != "taken", "an inline script was run"
    print("ok it goes when the store works again")
finally:
    for _, browser in browsers:
        browser.close()
