"""The site of the documents, from the repository as it is: `make docs` builds it into build/docs.

The source folder is the repository's root, so that a link between documents is the same here and on a forge.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from dsgd import __version__  # noqa: E402

project, author, version = "dsgd", "The dsgd maintainers", __version__
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/*.ipynb",
    "docker/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/results/speed.md",
    "experiments/results/README.md",
    "experiments/results/*/report.md",
]
exclude_patterns = [".*", "build", "runs", "data", "dist", "dsgd", "tests", "topologies", "**/node_modules"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "extension"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode, nb_merge_streams = "off", True  # a notebook is shown with the outputs that it has
smartquotes = False
suppress_warnings = ["ref.python"]  # of a type's short name, which two modules may have
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format, autodoc_preserve_defaults = "short", True
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100
nitpick_ignore_regex = [("py:.*", ".*")]  # types of torch and networkx, whose documents are elsewhere

html_theme = "furo"
html_title = f"dsgd {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["root"]  # the root leads to docs/index.html
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"
pygments_style, pygments_dark_style = "default", "github-dark"
