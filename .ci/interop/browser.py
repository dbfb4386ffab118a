"""Headless Chromium, as a person would use it, and what it complained about."""

import json

from harness import SOON, free_port, missing, program, until

try:
    from selenium import webdriver
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]  # fmt: skip


class Browser:
    def __init__(self, width=1280, height=800, dark=False):
        if webdriver is None:
            missing("selenium is not installed")
        options = webdriver.ChromeOptions()
        for flag in FLAGS:
            options.add_argument(flag)
        options.binary_location = program("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # The port that it would choose is one of those that others dial from.
        service = webdriver.ChromeService(executable_path=program("chromedriver"), port=free_port())
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(SOON)
        self.driver.set_script_timeout(SOON)
        self.metrics(width, height, dark)
        self.requests, self.complaints = [], []

    def metrics(self, width, height, dark=False):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def stop(self):
        self.driver.quit()

    def open(self, url):
        self.driver.get(url)

    def script(self, text, *args):
        return self.driver.execute_script(text, *args)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def find(self, selector):
        """The element, once it is there."""
        found = lambda: next((one for one in self.all(selector)), None)
        return until(found, SOON, f"{selector} at {self.driver.current_url}")

    def click(self, selector):
        """Clicks it, once it is there; it may be replaced meanwhile."""

        def try_it():
            try:
                element = self.driver.find_element(By.CSS_SELECTOR, selector)
                self.script("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
                return True
            except (NoSuchElementException, StaleElementReferenceException):
                return False

        until(try_it, SOON, f"a click on {selector} at {self.driver.current_url}")

    def type(self, selector, text):
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def keys(self, *keys):
        """Presses keys where the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def text(self, selector):
        return self.script("return document.querySelector(arguments[0])?.textContent ?? null", selector)

    def shows(self, selector, text):
        until(lambda: text in (self.text(selector) or ""), SOON, f"{text!r} in {selector}")

    def said(self, text):
        """Waits until the page says so, and clears it, so that it is not taken for the next time."""
        self.shows("#said", text)
        self.script("document.querySelector('#said').replaceChildren()")

    def read_logs(self):
        self.complaints += [one["message"] for one in self.driver.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])

    def check(self, test, base, but=()):
        """Nothing was complained of, but for what holds one of these, and nothing asked for but of the daemon."""
        self.read_logs()
        bad = [one for one in self.complaints if not any(part in one for part in but)]
        test.assertEqual(bad, [])
        others = {url for url in self.requests if not url.startswith((base, "data:", "about:", "blob:", "chrome:"))}
        test.assertEqual(others, set())
        test.assertTrue(self.requests)
