"""Figures as SVG: small, and drawn for a light page and for a dark one in a single file.

Whatever shows the file says which of the two the reader has chosen; programs that do not know of such a choice
draw the light one. A dark page has every colour at its place between black and white turned round, with its hue.
"""

import re

import numpy as np
from matplotlib.colors import to_hex, to_rgb

#: The page that figures stand on, by day and by night.
PAPER, NIGHT = "#ffffff", "#121212"
#: What lines and marks have to have against the page, and text: of the Web Content Accessibility Guidelines.
MARKS, TEXT = 3.0, 4.5
#: What has less on white is a grid or a band, and may stay as pale at night.
GROUND = 2.5

#: Linear RGB to the responses of the eye's cones and on to OKLab: Björn Ottosson, 2020.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _linear(colour) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(colour) -> np.ndarray:
    return _LAB @ np.cbrt(_CONES @ _linear(colour))


def _colour(lab: np.ndarray) -> str:
    """The colour of that lightness and hue, as colourful as a screen can show it."""
    for chroma in np.linspace(1, 0, 21):
        cones = np.linalg.solve(_LAB, lab * [1, chroma, chroma]) ** 3
        linear = np.linalg.solve(_CONES, cones)
        if linear.min() > -1e-3 and linear.max() < 1 + 1e-3:
            break
    # pyrefly: ignore[unbound-name], for there is a chroma at least
    linear = np.clip(linear, 0, 1)
    return to_hex(tuple(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)))


def contrast(one, other) -> float:
    """The contrast of two colours, 1 to 21, as the Web Content Accessibility Guidelines have it."""
    low, high = sorted(float(_linear(c) @ (0.2126, 0.7152, 0.0722)) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def readable(colour, least: float = MARKS, page: str = PAPER) -> str:
    """The colour, moved as far from the page's as it takes for that contrast; its hue stays."""
    lab = _lab(colour)
    step = 0.01 if _lab(page)[0] < 0.5 else -0.01
    while contrast(_colour(lab), page) < least and 0 < lab[0] + step < 1:
        lab[0] += step
    return _colour(lab)


def at_night(colour) -> str:
    """What stands for a colour on a dark page: as far from it as the colour is from white."""
    lab, night = _lab(colour), _lab(NIGHT)
    lab[0] = night[0] + (1 - lab[0]) * (1 - night[0])
    turned = _colour(lab)
    return readable(turned, TEXT, NIGHT) if contrast(colour, PAPER) >= GROUND else turned


def adaptive(svg: str) -> str:
    """matplotlib's SVG with the colours of a dark page beside its own."""
    used = sorted(set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", svg)))
    rules = [f'[style*="{what}: {colour}"]{{{what}:{at_night(colour)}!important}}' for what, colour in used]
    # what is black has no colour in matplotlib's file, but that of all that says nothing
    dark = "".join([f"svg,text{{fill:{at_night('black')}}}", *rules])
    return svg.replace("</style>", f"@media (prefers-color-scheme:dark){{{dark}}}</style>", 1)


def smaller(svg: str) -> str:
    """The same drawing in fewer bytes: to a hundredth of a point, the style of equal marks said once, no name of a
    group that nothing refers to, and no turn by nothing."""

    def rounded(match: re.Match) -> str:
        return match[1] + re.sub(
            r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), match[2]
        )

    def tight(match: re.Match) -> str:
        return re.sub(r"\s+", " ", re.sub(r"\s*([A-Za-z])\s*", r"\1", match[0]))

    def once(match: re.Match) -> str:
        styles = set(re.findall(r' style="([^"]*)"', match[2]))
        if len(styles) != 1:
            return match[0]
        return f'{match[1]} style="{styles.pop()}">' + re.sub(
            r'\s+(<use [^>]*?) style="[^"]*"', r"\n\1", match[2]
        )

    svg = re.sub(r'(\b(?:d|x|y|x1|x2|y1|y2|width|height|points)=)("[^"]*")', rounded, svg)
    svg = re.sub(r'(?<=\bd=")[^"]*', tight, svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    svg = re.sub(r'<g id="[A-Za-z\d.]+_\d+">', "<g>", svg)
    svg = re.sub(r"(<g clip-path=[^>]*)>((?:\s*<use [^>]*>)+)", once, svg)
    return re.sub(r"\n\s+", "\n", re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL))
