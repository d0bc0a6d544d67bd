"""A headless Chromium that opens a page, does things to it, and tells what it finds."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-extensions", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"
# Chromium's own chatter with Google, which a page cannot cause.
OWN_HOSTS = (
    "accounts.google.com",
    "clients2.google.com",
    "www.google.com/async/",
    "update.googleapis.com",
    "optimizationguide",
)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# Contrast of every text with what lies behind it (WCAG 2.2, 1.4.3). Texts that matplotlib wrote into the cells of a
# heat map are coloured to fit their cell, which is no ancestor of theirs; they are the ones without a page variable.
CONTRASTS = """
  const channel = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const read = (text) => {
    const numbers = text.match(/[\\d.e-]+/g).map(Number);
    const unit = text.startsWith("color(") ? 1 : 255;
    return [...numbers.slice(0, 3).map((n) => n / unit), numbers.length > 3 ? numbers[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let each = node; each; each = each.parentElement) {
      layers.push(read(view.getComputedStyle(each).backgroundColor));
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [1, 1, 1]);
  };
  const luminance = (rgb) => rgb.map(channel).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const poor = [];
  let texts = 0;
  for (const details of page.querySelectorAll("details")) details.open = true;
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE", "title"].includes(node.tagName)) continue;
    if (!node.getClientRects().length) continue;
    const style = view.getComputedStyle(node);
    const drawn = node instanceof view.SVGElement;
    if (drawn && !/fill: var/.test(node.closest("text").getAttribute("style") || "")) continue;
    const paper = behind(node);
    const ink = over(read(drawn ? style.fill : style.color), paper);
    const [high, low] = [luminance(ink), luminance(paper)].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    texts++;
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (large ? 3 : 4.5)) poor.push([walker.currentNode.textContent.trim().slice(0, 40), contrast]);
  }
  told.texts = texts;
  told.poor = poor;
  told.paper = luminance(behind(page.body));
"""


# The faults of accessibility that axe-core finds in what is shown, with their first places: those that keep somebody
# from using the page.
AXE = """
  const found = await view.axe.run(page, { resultTypes: ["violations"] });
  told.faults = found.violations.filter((each) => ["serious", "critical"].includes(each.impact))
    .map((each) => [each.id, each.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]);
  told.passes = found.passes.length;
"""


def add_axe(page, folder):
    """Return the address of a copy of a page that holds axe-core, which the page's own policy would not let run."""
    library = importlib.util.find_spec("axe_playwright_python")
    if library is None:
        pytest.skip("axe-core is not installed: constraints/test-assets.txt")
    [place] = library.submodule_search_locations
    html = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    script = (Path(place) / "axe.min.js").read_text(encoding="utf-8")
    copy = folder / "with-axe.html"
    copy.write_text(html.replace("</head>", f"<script>{script}</script></head>", 1), encoding="utf-8")
    return copy.as_uri()


def run_chromium(folder, *arguments):
    """Run Chromium to its end and return what it printed."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


def console_lines(done):
    """Return what the pages of a run wrote to the console, errors included."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def requested(log):
    """Return the addresses of all requests in a Chromium net log."""
    events = json.loads(log.read_text())["events"]
    addresses = [event.get("params", {}).get("url", "") for event in events]
    return {url for url in addresses if url and not any(host in url for host in OWN_HOSTS)}


def ask_page(address, folder, script, *, width=1200, dark=False):
    """Return what `script` puts into the object `told`, and the console's lines.

    The page's own policy lets no other script run, so it lies in a frame, as wide as asked for (a headless window has
    a least width), and the script in the page around it: `page` is the document, `view` its window.
    """
    outer = folder / "outer.html"
    outer.write_text(
        '<meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<body><iframe src='{address}' style='width:{width}px;height:2500px;border:0'></iframe><script>"
        "const frame = document.querySelector('iframe');"
        "frame.onload = async () => { const page = frame.contentDocument, view = frame.contentWindow, told = {};"
        f"{script}; const shown = document.createElement('pre'); shown.textContent = JSON.stringify(told);"
        "document.body.replaceChildren(shown); }</script>",
        encoding="utf-8",
    )
    flags = ["--allow-file-access-from-files", "--virtual-time-budget=8000", *([DARK] if dark else [])]
    done = run_chromium(folder, *flags, "--dump-dom", outer.as_uri())
    found = re.search("<pre>(.*)</pre>", done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-2000:]
    text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u00a0").replace("&amp;", "&")
    return json.loads(text), console_lines(done)
