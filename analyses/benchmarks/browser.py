"""How soon a page of a report is shown in Chromium, and how soon it answers, in real time."""

import json
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_LONGEST = 120.0  # seconds for a page

# The page lies in a frame of this one, whose script its policy does not bind; times are in milliseconds.
_OUTER = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><script>
const frame = document.createElement("iframe");
frame.style = "width:1280px;height:800px;border:0";
const told = {};
const until = async (find) => {
  for (;;) {
    const found = find();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 5));
  }
};
const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
const time = async (act) => {
  const started = performance.now();
  await act();
  await painted();
  return performance.now() - started;
};
frame.onload = async () => {
  const view = frame.contentWindow, page = frame.contentDocument;
  told.first_screen = (await until(() => view.performance.getEntriesByName("first-contentful-paint")[0])).startTime;
  told.loaded = view.performance.getEntriesByType("navigation")[0].loadEventStart;
  const go = (address, selector) => time(() => {
    view.location.hash = address;
    return until(() => page.querySelector(selector));
  });
  told.open_explorer = await go("#layer-0", "#explorer .passage");
  told.open_table = await go("#experts", "#experts .tabulator-row");
  const choose = async (name) => {
    const select = page.querySelector(`#explorer [name=${name}]`);
    const times = [];
    for (let place = 1; place <= Math.min(10, select.options.length - 1); place++) {
      times.push(await time(() => { select.selectedIndex = place; select.dispatchEvent(new view.Event("change")); }));
    }
    return times.sort((a, b) => a - b);
  };
  const middle = (times) => times[Math.floor(times.length / 2)];
  const experts = await choose("expert");
  [told.choose_expert, told.choose_expert_longest] = [middle(experts), experts[experts.length - 1]];
  told.choose_layer = middle(await choose("layer"));
  fetch("/done", { method: "POST", body: JSON.stringify(told) });
};
frame.src = "/report.html";
document.body.append(frame);
</script>"""


def time_page(page: Path) -> dict[str, float] | None:
    """Return what showing a page with an explorer takes, in milliseconds; None without Chromium.

    Raises:
        TimeoutError: the page did not answer.
    """
    if CHROMIUM is None:
        return None
    files = {"/": _OUTER.encode(), "/report.html": page.read_bytes()}
    told: dict[str, float] = {}
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            told.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,800"]
        address = f"http://127.0.0.1:{server.server_port}/"
        with subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                if not done.wait(_LONGEST):
                    raise TimeoutError(f"{page}: expected an answer within {_LONGEST:g} s")
            finally:
                process.terminate()
    server.shutdown()
    return told
