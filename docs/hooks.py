"""Hooks of the site's build. Pages load nothing from elsewhere, so Mermaid blocks are drawn here."""

import re

from mermaid_render import mermaid_to_svg
from properdocs.exceptions import PluginError


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put a picture in the place of each Mermaid block, and text in that of links to what is no page."""
    inside = re.sub(r"\[([^]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
    return re.sub(r"^```mermaid\n(.*?)^```$", _draw, inside, flags=re.DOTALL | re.MULTILINE)


def on_post_page(output: str, **_: object) -> str:
    """Refuse a page that is not whole by itself."""
    if found := re.search(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*', output):
        raise PluginError(f"a page must load nothing from elsewhere, as in {found[0]}")
    return output


def _draw(block: re.Match[str]) -> str:
    return f'<div class="diagram">{mermaid_to_svg(block[1]).decode()}</div>'
