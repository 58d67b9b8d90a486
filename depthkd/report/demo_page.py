"""The page of `depthkd demo`: choose a photograph, see its depth and its points."""

from collections.abc import Sequence
from html import escape

from depthkd.report.document import page
from depthkd.report.interactive import STYLES, cloud_canvas, slider

NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="  # one clear pixel
SCRIPTS = ("compare.js", "cloud.js", "demo.js")


def demo_page(about: str, examples: Sequence[str]) -> str:
    """The page.

    Args:
        about: the model, in a sentence.
        examples: what the photographs show that can be chosen; the first is examples/0.
    """
    buttons = "".join(
        f'<button type="button" class="example" data-example="examples/{i}" aria-label="{escape(name)}">'
        f'<img src="examples/{i}" alt=""></button>'
        for i, name in enumerate(examples)
    )
    shown = slider("the photograph", NOTHING, NOTHING, "")
    body = f"""<h1>Depth of a photograph</h1>
<p class="note">{escape(about)}</p>
<div class="controls"><label>Your photograph (JPEG, PNG or WebP): <input type="file" id="file"
accept="image/jpeg,image/png,image/webp"></label></div>
<h2>Or one of these</h2>
<div class="controls" role="group" aria-label="examples">{buttons}</div>
<p id="said" class="note" role="status">Photographs stay on the machine that runs depthkd.</p>
<div id="result" hidden>
<h2>Depth</h2>
<p class="note">Bright is near. The slider moves the edge between photograph and depth.</p>
<div class="pairs">{shown}</div>
<h2>Point cloud</h2>
<p id="meaning" class="note"></p>
<figure class="cloud">{cloud_canvas("the photograph")}</figure>
</div>"""
    return page("depthkd demo", body, [*STYLES, "demo.css"], SCRIPTS)
