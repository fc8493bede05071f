"""How Sphinx builds the documentation: `nox -s docs`."""

from __future__ import annotations

from importlib.metadata import version as _version

project = "sagaflow"
author = "the sagaflow authors"
project_copyright = "the sagaflow authors"
release = _version("sagaflow")
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
suppress_warnings: list[str] = []

myst_heading_anchors = 3

# A name in single backquotes is a link if it names something, and code if it does not.
default_role = "py:obj"
add_module_names = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"sagaflow {release}"
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
