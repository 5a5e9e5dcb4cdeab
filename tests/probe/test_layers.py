import pytest

from probe.layers import GROUPS, Place, band_of, num_layers_of, place_of


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("model.layers.3.self_attn.q_proj", Place(3, "q")),
        ("model.layers.0.mlp.gate_proj", Place(0, "mlp")),
        ("transformer.h.11.attn.out_proj", Place(11, "o")),
        ("model.decoder.layers.7.fc1", Place(7, "mlp")),
        ("layers.5.attention.wk", Place(5, "k")),
        ("model.layers.2.mlp.experts.4.w2", Place(2, "mlp")),
        ("lm_head", Place(None, None)),
        ("model.layernorm.q_proj", Place(None, "q")),
    ],
)
def test_names_tell_layer_and_kind(module: str, place: Place) -> None:
    assert place_of(module) == place


def test_bands_are_thirds_of_the_depth() -> None:
    assert [band_of(layer, 6) for layer in range(6)] == ["lower", "lower", "middle", "middle", "upper", "upper"]
    assert [band_of(layer, 2) for layer in range(2)] == ["lower", "middle"]
    assert band_of(0, 1) == "lower"


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_outside_the_model_is_refused(layer: int) -> None:
    with pytest.raises(ValueError, match="outside a model of 4 layers"):
        band_of(layer, 4)


def test_a_module_belongs_to_all_its_band_and_its_kind() -> None:
    assert Place(5, "v").groups(6) == ("all", "upper", "v")
    assert Place(None, None).groups(6) == ("all",)
    assert set(Place(0, "mlp").groups(3)) <= set(GROUPS)


def test_the_depth_is_one_more_than_the_last_layer_seen() -> None:
    assert num_layers_of(["model.layers.0.q_proj", "model.layers.9.q_proj"]) == 10
    assert num_layers_of(["lm_head"]) == 1
