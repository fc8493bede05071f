"""Diagrams of sagas: Mermaid, Graphviz DOT, and SVG that needs no other program."""

from sagaflow._model.public import public_in as _public_in
from sagaflow.diagrams.dot import to_dot as to_dot
from sagaflow.diagrams.mermaid import to_mermaid as to_mermaid
from sagaflow.diagrams.model import Diagram as Diagram
from sagaflow.diagrams.model import Step as Step
from sagaflow.diagrams.model import Trail as Trail
from sagaflow.diagrams.model import diagram_of as diagram_of
from sagaflow.diagrams.svg import to_svg as to_svg
from sagaflow.diagrams.trail import trail_of as trail_of

__all__ = ["Diagram", "Step", "Trail", "diagram_of", "to_dot", "to_mermaid", "to_svg", "trail_of"]

_public_in(__name__, diagram_of, to_dot, to_mermaid, to_svg, trail_of)
