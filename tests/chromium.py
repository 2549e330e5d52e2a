"""A real headless Chromium, through chromedriver, which reaches nothing but loopback."""
import json
import subprocess
import tempfile
import time
import urllib.request

DESKTOP, PHONE = ("desktop", 1280, 900, False), ("phone, dark", 390, 844, True)


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


def until(what, done, tenths=200):
    for _ in range(tenths):
        if done():
            return
        time.sleep(0.1)
    raise AssertionError(what)
