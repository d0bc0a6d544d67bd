"""What the package itself wrote into a page."""

import re


def strip_libraries(html):
    """Return a page without its style and without the libraries in it, whose words are not the package's."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"<script>/\*!.*?</script>", "", html, flags=re.DOTALL)
