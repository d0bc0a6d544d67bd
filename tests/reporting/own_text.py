"""What the package itself wrote into a page."""

import base64
import gzip
import json
import re


def strip_libraries(html):
    """Return a page without its style and without the libraries in it, whose words are not the package's."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"<script>/\*!.*?</script>", "", html, flags=re.DOTALL)


def read_packed(html):
    """Return the data that a page holds compressed, in their order."""
    packed = re.findall(r'<script type="text/plain">([^<]*)</script>', html)
    return [json.loads(gzip.decompress(base64.b64decode(text))) for text in packed]
