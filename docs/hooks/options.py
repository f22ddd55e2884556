"""An option such as `--path-column` is never broken behind one of its hyphens."""

from __future__ import annotations

import re

CODE = re.compile(r"(<pre\b.*?</pre>)|<code>(.*?)</code>", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def on_page_content(html: str, **_: object) -> str:
    """Keep each option that stands in a line of text on one line."""
    return CODE.sub(_kept, html)


def _kept(code: re.Match[str]) -> str:
    if code[1]:
        return code[1]  # a block breaks nowhere
    return f"<code>{OPTION.sub(r'<span class="option">\g<0></span>', code[2])}</code>"
