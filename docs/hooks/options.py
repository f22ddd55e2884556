"""An option such as `--path-column` is never broken behind one of its hyphens."""

from __future__ import annotations

import re

CODE = re.compile(r"<pre\b.*?</pre>|(?<=<code>)[^<]+(?=</code>)", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def on_page_content(html: str, **_: object) -> str:
    """Keep each option that stands in a line of text on one line; blocks of code break nowhere."""
    return CODE.sub(lambda code: code[0] if code[0].startswith("<pre") else _kept(code[0]), html)


def _kept(text: str) -> str:
    return OPTION.sub(r'<span class="option">\g<0></span>', text)
