import pytest

from depthkd.models.provenance import KNOWN, hub_id, known, stated_or_known, training_sets

BENCHMARKS = {
    *("NYUv2", "KITTI", "ETH3D", "ScanNet", "DIODE", "Sintel", "iBims-1", "Spring", "UnrealStereo4K"),
    *("Booster", "nuScenes", "DA-2K", "Hypersim", "Virtual KITTI 2"),
}


@pytest.mark.parametrize(
    ("source", "benchmarks"),
    [
        ("LiheYoung/depth-anything-small-hf", set()),
        ("LiheYoung/depth_anything_vitl14", set()),
        ("depth-anything/Depth-Anything-V2-Large-hf", {"Hypersim", "Virtual KITTI 2"}),
        ("depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf", {"Hypersim", "Virtual KITTI 2"}),
        ("xingyang1/Distill-Any-Depth-Large-hf", {"Hypersim", "Virtual KITTI 2"}),
        ("Intel/dpt-large", set()),
        ("Intel/dpt-hybrid-midas", set()),
        ("Intel/dpt-beit-large-512", {"NYUv2", "KITTI"}),
        ("Intel/dpt-swinv2-tiny-256", {"NYUv2", "KITTI"}),
        ("Intel/zoedepth-nyu", {"NYUv2", "KITTI"}),
        ("Intel/zoedepth-nyu-kitti", {"NYUv2", "KITTI"}),
        ("apple/DepthPro-hf", {"ScanNet", "Hypersim", "UnrealStereo4K", "Virtual KITTI 2"}),
        ("lpiccinelli/unidepth-v1-vitl14", {"ScanNet"}),
        ("lpiccinelli/unidepth-v2-vits14", {"ScanNet"}),
        ("lpiccinelli/unidepth-v2old-vitl14", {"ScanNet", "Hypersim"}),
        ("yvanyin/metric3d/metric3d_vit_giant2", {"ScanNet", "Hypersim", "Virtual KITTI 2"}),
        ("yvanyin/metric3d/metric3d_convnext_large", set()),
        ("prs-eth/marigold-depth-v1-1", {"Hypersim", "Virtual KITTI 2"}),
        ("guangkaixu/genpercept-disparity", {"Hypersim", "Virtual KITTI 2"}),
        ("guangkaixu/GenPercept", {"Hypersim", "Virtual KITTI 2"}),
        ("jingheya/lotus-depth-g-v1-0", {"Hypersim", "Virtual KITTI 2"}),
    ],
)
def test_the_benchmarks_among_the_training_sets(source: str, benchmarks: set[str]) -> None:
    sets = training_sets(source)
    assert sets
    assert BENCHMARKS & set(sets) == benchmarks


def test_of_others_nothing_is_claimed() -> None:
    for source in ("runs/student", "nobody/nothing", "Intel/dpt-large-ade", "/models/zoedepth-nyu", ""):
        assert training_sets(source) is None


def test_folders_of_the_hub_s_cache_are_known_by_their_id() -> None:
    folder = "/home/me/.cache/huggingface/hub/models--Intel--dpt-beit-large-512/snapshots/0a1b"
    assert hub_id(folder) == "Intel/dpt-beit-large-512"
    assert training_sets(folder) == training_sets("Intel/dpt-beit-large-512") is not None


def test_what_a_user_states_comes_first() -> None:
    assert stated_or_known(["KITTI"], "Intel/dpt-large") == ("KITTI",)
    assert stated_or_known([], "Intel/dpt-large") == ()
    assert stated_or_known(None, "Intel/dpt-large") == training_sets("Intel/dpt-large")
    assert stated_or_known(None, None) is None


def test_every_statement_has_a_source_and_no_set_twice() -> None:
    for entry in KNOWN:
        assert entry.stated
        assert len(set(entry.sets)) == len(entry.sets)
        assert entry.pattern == entry.pattern.lower()
    statement = known("apple/DepthPro")
    assert statement is not None
    assert "2410.02073" in statement.stated
