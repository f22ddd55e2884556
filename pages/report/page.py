"""What a page shows -> one HTML file that loads nothing and runs nothing but its own script."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...features.errors import encodable
from .names import cut

_HERE: Final = Path(__file__).parent


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template in; whatever comes from outside is escaped, on one line and printable.

    The page may load nothing, and run nothing but the script that it comes with: its
    Content-Security-Policy names style and script by their digests.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"cut": cut, "percent": _percent, "count": _count}
    style, script = (_text("report.css"), _text("report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(script)}; base-uri 'none'; form-action 'none'"
    )
    ours = {"style": Markup(style), "script": Markup(script), "policy": policy}
    return environment.get_template(template).render(ours | dict(values))


def _text(name: str) -> str:
    return (_HERE / "static" / name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _shown(value: Any) -> Any:
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return encodable(value)
    return value


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _count(number: int) -> str:
    return f"{number:,}"
