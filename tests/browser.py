#!/usr/bin/env python3
"""Looks at a page with a real headless Chromium, through chromedriver: on a desktop, on a phone, with a keyboard.

    browser.py URL TEXT...

Each TEXT must be on the page. Nothing may be loaded from elsewhere, logged as an error, or wider than the screen.
"""
import json
import sys

from chromium import DESKTOP, PHONE, Browser, until

URL, TEXTS = sys.argv[1], sys.argv[2:]
TAB, ENTER = "\ue004", "\ue007"

for name, width, height, dark in (DESKTOP, PHONE):
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
