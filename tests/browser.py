#!/usr/bin/env python3
"""Looks at a page with a real headless Chromium, through chromedriver: on a desktop, on a phone, with a keyboard.

    browser.py URL TEXT...

Each TEXT must be on the page. Nothing may be loaded from elsewhere, logged as an error, or wider than the screen.
"""
import json
import subprocess
import sys
import tempfile
import time
import urllib.request

URL, TEXTS = sys.argv[1], sys.argv[2:]
TAB, ENTER = "\ue004", "\ue007"


class Browser:
    def __init__(self, width, height, dark):
        self.profile = tempfile.TemporaryDirectory()
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self.driver.stdout:
            if "successfully on port" in line:
                self.port = int(line.rsplit("port", 1)[1].strip().rstrip("."))
                break
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
                     "--disable-background-networking", "--disable-component-update", "--no-first-run",
                     "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
                     "--user-data-dir=" + self.profile.name, "--window-size=%d,%d" % (width, height)]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        options = {"args": arguments}
        if width < 600:
            options["mobileEmulation"] = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2}}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self.session = ""
        answer = self.tell("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = "/session/" + answer["sessionId"]

    def tell(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request("http://127.0.0.1:%d%s%s" % (self.port, self.session, path), data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script):
        return self.tell("POST", "/execute/sync", {"script": script, "args": []})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.tell("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def close(self):
        try:
            self.tell("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()


def until(what, done):
    for _ in range(100):
        if done():
            return
        time.sleep(0.1)
    raise AssertionError(what)


for name, width, height, dark in (("desktop", 1280, 900, False), ("phone, dark", 390, 844, True)):
    browser = Browser(width, height, dark)
    try:
        browser.tell("POST", "/url", {"url": URL})
        text = lambda: browser.run("return document.body.innerText")
        for wanted in TEXTS:
            until("%s: %r is not in\n%s" % (name, wanted, text()), lambda: wanted in text())
        wide = browser.run("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide[0] <= wide[1], "%s: the page is %d wide, the screen %d" % (name, *wide)
        assert browser.run("return document.title") and browser.run("return document.documentElement.lang") == "en"
        contrast = browser.run("const s = getComputedStyle(document.body); return matchMedia('(prefers-color-scheme: dark)').matches")
        assert contrast == dark, "%s: the colours are not those asked for" % name
        foldable = browser.run("return document.querySelectorAll('details').length")
        if foldable:
            # A page that loads itself anew may do so between two keys.
            def unfolds():
                browser.press(TAB, ENTER)
                return browser.run("return document.querySelectorAll('details[open]').length")
            until("%s: nothing unfolds by keyboard" % name, unfolds)
        faults = [entry for entry in browser.tell("POST", "/se/log", {"type": "browser"})
                  if entry["level"] == "SEVERE" and "favicon" not in entry["message"]]
        assert not faults, "%s: %s" % (name, faults)
        asked = [json.loads(entry["message"])["message"] for entry in browser.tell("POST", "/se/log", {"type": "performance"})]
        asked = [event["params"]["request"]["url"] for event in asked if event["method"] == "Network.requestWillBeSent"]
        # The browser's own first page is no business of ours.
        asked = [url for url in asked if not url.startswith(("chrome", "data:"))]
        home = URL.split("/")[2]
        assert asked and all(url.split("/")[2] == home for url in asked), "%s: asked elsewhere: %s" % (name, asked)
        print("ok", name)
    finally:
        browser.close()
