import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib import models, theory
from lib.config import Config
from lib.figures import diagrams, layout


@pytest.mark.mpl_image_compare(baseline_dir="baseline_images", savefig_kwargs={"dpi": 45})
def test_the_diagram_looks_as_it_did():
    return diagrams.network(Config(architecture="Residual:L1+L3"), 32)


@pytest.mark.parametrize("architecture", ["backbone", "Extra:L2", "Residual:L1+L3"])
def test_the_diagram_has_a_box_for_every_weight(architecture):
    figure = diagrams.network(Config(architecture=architecture), 32)
    titles = [t.get_text() for t in figure.axes[0].texts[::2]]  # a title and its details in turn
    weights = models.probed_weights(models.build(architecture, width=1))
    assert titles == ["image", *(name.rpartition(".")[2] for name in weights)]
    assert not plt.get_fignums()


def test_the_diagram_has_the_sizes_of_the_posts_network():
    figure = diagrams.network(Config(architecture="Residual:L1+L3"), 32)
    text = " ".join(t.get_text() for t in figure.axes[0].texts)
    assert "64 × 32²" in text and "512 × 4²" in text and "max 4×4" in text
    with layout.narrow():
        on_a_phone = diagrams.network(Config(architecture="Residual:L1+L3"), 32)
    assert "3×3 conv, BN+ReLU, 64 × 32²" in [t.get_text() for t in on_a_phone.axes[0].texts]


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("decay", [0.001, 0.08])
def test_a_drawn_step_leaves_its_circle_at_a_right_angle_and_returns_to_it(length, decay):
    w, stepped, after = diagrams.step(length, decay)
    assert w @ (stepped - w) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(after - stepped, -decay * w)
    assert np.linalg.norm([w, after], axis=1) == pytest.approx([length, length], rel=1e-12)
    turned = np.arccos(w @ after / length**2)
    assert turned == pytest.approx(theory.rotation(lr=1.0, weight_decay=decay), rel=1e-9)


@pytest.mark.mpl_image_compare(baseline_dir="baseline_images", savefig_kwargs={"dpi": 45})
def test_the_vectors_look_as_they_did():
    return diagrams.vectors()
