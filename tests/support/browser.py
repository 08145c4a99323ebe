"""A Chromium without a window, driven over a pair of pipes (the DevTools protocol); it ends when they do.

Everything it complains about is collected: exceptions, errors on the console, violations of the content security policy,
dialogs, and requests to anywhere else.
"""
import base64, json, os, select, shutil, signal, subprocess, tempfile, time


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="nodeprobe-browser-")
        to_child, self.orders = os.pipe()
        self.answers, from_child = os.pipe()
        # Numbers well above those that the child wants to have them at.
        ends = [os.dup2(end, 200 + n) for n, end in enumerate((to_child, from_child))]

        def place():
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)
            # So that it cannot outlive the test, whatever happens to the pipes.
            import ctypes
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)

        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
        self.child = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run", "--hide-scrollbars",
             "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-extensions", "--force-color-profile=srgb", f"--user-data-dir={self.profile}",
             "--disable-crash-reporter", "--disable-breakpad", "about:blank"],
            preexec_fn=place, pass_fds=(3, 4), env={**environment, "HOME": self.profile}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (to_child, from_child, *ends):
            os.close(end)
        self.number = 0
        self.buffer = b""
        self.problems = []
        self.origin = ""
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(domain + ".enable")

    def close(self):
        self.child.kill()
        self.child.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def receive(self, end):
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.answers], [], [], left)[0], "the browser does not answer"
            part = os.read(self.answers, 1 << 20)
            assert part, "the browser has ended"
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.orders, data):]
        end = time.monotonic() + 60
        while True:
            answer = self.receive(end)
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.note(answer.get("method"), answer.get("params", {}))

    def note(self, event, params):
        if event == "Runtime.exceptionThrown":
            self.problems.append("exception: " + json.dumps(params["exceptionDetails"])[:600])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append("console: " + json.dumps(params["args"])[:600])
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            # What is refused while the agent is away is said here too.
            if "net::ERR_CONNECTION" not in params["entry"]["text"]:
                self.problems.append("log: " + params["entry"]["text"][:600])
        elif event == "Audits.issueAdded":
            self.problems.append("issue: " + json.dumps(params["issue"])[:600])
        elif event == "Page.javascriptDialogOpening":
            self.problems.append("dialog: " + params["message"])
            self.number += 1
            message = {"id": self.number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}, "sessionId": self.session}
            os.write(self.orders, json.dumps(message).encode() + b"\0")
        elif event == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith((self.origin, "data:", "about:")):
                self.problems.append("request: " + url)

    def view(self, width, height, scale=1, dark=False, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url):
        self.origin = "/".join(url.split("/")[:3])
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def js(self, expression):
        """The value of an expression as text: a string as it is, all else as JSON."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, f"{expression}: {json.dumps(result['exceptionDetails'])[:800]}"
        value = result["result"].get("value")
        return value if isinstance(value, str) else json.dumps(value)

    def until(self, condition, patience=60):
        end = time.monotonic() + patience
        while self.js(f"Boolean({condition})") != "true":
            assert time.monotonic() < end, f"waited {patience} s in vain: {condition}; {self.problems}"
            time.sleep(0.05)

    def key(self, key, code=0, text="", name=""):
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=name or key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=name or key, windowsVirtualKeyCode=code)

    def picture(self, path):
        # Two frames, so that what was drawn last is on it.
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        data = self.call("Page.captureScreenshot", format="png")["data"]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
