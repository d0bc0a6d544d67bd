import json
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-extensions", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
# Chromium's own chatter with Google, which a page cannot cause.
OWN_HOSTS = ("accounts.google.com", "clients2.google.com", "update.googleapis.com", "optimizationguide")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture
def page(pair):
    return pair[1]


def run_chromium(folder, *arguments):
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


def requested(log):
    """Return the addresses of all requests in a Chromium net log."""
    events = json.loads(log.read_text())["events"]
    addresses = [event.get("params", {}).get("url", "") for event in events]
    return {url for url in addresses if url and not any(host in url for host in OWN_HOSTS)}


def test_the_page_opens_without_an_error_and_asks_for_nothing(page, tmp_path):
    log = tmp_path / "net.json"
    done = run_chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", page.as_uri())
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    assert "What routing tells about syntax and topics" in done.stdout
    assert requested(log) == set()


def test_the_policy_of_the_page_stops_a_script_that_got_in(page, tmp_path):
    html = page.read_text(encoding="utf-8").replace("<main>", "<main><script>document.title = 'in'</script>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    done = run_chromium(tmp_path, "--dump-dom", (tmp_path / "page.html").as_uri())
    assert "<title>in</title>" not in done.stdout
    assert "Content Security Policy" in done.stderr


@pytest.mark.parametrize("width", [375, 1200])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    # The page forbids scripts, so a frame of the width asked for measures it: headless windows have a least width.
    html = page.read_text(encoding="utf-8")
    html = html.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    script = (
        "<script>const page = document.documentElement;"
        "document.title = 'overflow ' + (page.scrollWidth - page.clientWidth)</script></body>"
    )
    (tmp_path / "inner.html").write_text(html.replace("</body>", script), encoding="utf-8")
    (tmp_path / "outer.html").write_text(
        f"<body style='margin:0'><iframe src='inner.html' style='width:{width}px;height:3000px;border:0' "
        "onload='document.title = this.contentDocument.title'></iframe>"
    )
    done = run_chromium(
        tmp_path,
        "--allow-file-access-from-files",
        "--window-size=1400,3000",
        "--virtual-time-budget=3000",
        "--dump-dom",
        (tmp_path / "outer.html").as_uri(),
    )
    assert "<title>overflow 0</title>" in done.stdout
