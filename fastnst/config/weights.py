"""Weights of the loss terms: in which form they weigh, and what they are where nobody says otherwise."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from cyclopts import Parameter

from fastnst.values import check_choice

LossForm = Literal["relative", "paper", "gatys"]
TVForm = Literal["squared", "power"]


@dataclass(frozen=True)
class LossWeights:
    """Multipliers of the three terms."""

    content: float
    style: float
    tv: float

    @classmethod
    def resolve(
        cls, form: LossForm, content: float | None = None, style: float | None = None, tv: float | None = None
    ) -> "LossWeights":
        """Those that are given, and the defaults of a form of weighing for the others."""
        check_choice("loss", form, get_args(LossForm))
        given = {"content": content, "style": style, "tv": tv}
        return replace(DEFAULT_WEIGHTS[form], **{name: value for name, value in given.items() if value is not None})


# paper: the defaults of Johnson's released code, for VGG features of 0..255 images.
# gatys: the ratio of content to style of Gatys et al. 2015, figure 2, on the same features.
# relative: by eye, over 14 styles; the terms are fractions of their targets' energy.
DEFAULT_WEIGHTS: dict[LossForm, LossWeights] = {
    "paper": LossWeights(content=1.0, style=5.0, tv=1e-6),
    "gatys": LossWeights(content=1.0, style=1e3, tv=0.0),
    "relative": LossWeights(content=1.0, style=15.0, tv=0.05),
}

# In the relative form, equal weights leave more than half of the style term to relu4_3, whose Gram matrix a network of
# this size cannot match: it hatches, in two colors. In the paper's form relu1_2, relu2_2 and relu3_3 weigh about
# 8 : 8 : 1 in these units, the median of 14 paintings, and relu4_3 next to nothing.
DEFAULT_STYLE_LAYERS: dict[LossForm, tuple[str, ...]] = {
    "paper": ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
    "gatys": ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
    "relative": ("relu1_2:4", "relu2_2:4", "relu3_3"),
}

# Of the style term where pixels are optimized in the relative form: by eye at 512 pixels with the layers of Gatys et
# al., whose content layer lies deeper than that of training.
OPTIMIZED_STYLE = 10.0


def weight_help(term: str, *forms: LossForm, relative: float | None = None) -> Parameter:
    """The help of a weight that is None where the form of weighing decides; `relative` if not that of training."""
    name = {"content": "content term", "style": "style term", "tv": "total variation"}[term]
    values = {form: getattr(DEFAULT_WEIGHTS[form], term) for form in forms}
    if relative is not None:
        values["relative"] = relative
    numbers = [f"{value:g}".replace("e-0", "e-") for value in values.values()]
    default = ", ".join(f"{form} {number}" for form, number in zip(values, numbers, strict=True))
    return Parameter(help=f"weight of the {name} [default: {default if len(set(numbers)) > 1 else numbers[0]}]")
