"""The metrics of depth as papers write them, in NumPy."""

import numpy as np

THRESHOLDS = {
    "delta1": 1.25,
    "delta2": 1.25**2,
    "delta3": 1.25**3,
    "delta_1_05": 1.05,
    "delta_1_10": 1.1,
    "delta_1_15": 1.15,
    "delta_1_20": 1.2,
}


def numpy_completion(p: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """What papers on depth completion print besides (KITTI's devkit, NLSPN's and OMNI-DC's metrics)."""
    return {
        "mae": np.mean(np.abs(p - t)),
        "imae": np.mean(np.abs(1 / p - 1 / t)),
        "delta_1_02": np.mean(np.maximum(p / t, t / p) < 1.02),
    }


def numpy_metrics(p: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """The formulas as papers write them, of the valid pixels of one image; also what our speed is against."""
    ratio = np.maximum(p / t, t / p)
    log_ratio = np.log(p) - np.log(t)
    return {
        "abs_rel": np.mean(np.abs(p - t) / t),
        "sq_rel": np.mean((p - t) ** 2 / t),
        "rmse": np.sqrt(np.mean((p - t) ** 2)),
        "rmse_log": np.sqrt(np.mean(log_ratio**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(t))),
        "silog": 100 * np.std(log_ratio),
        "irmse": np.sqrt(np.mean((1 / p - 1 / t) ** 2)),
        **{name: np.mean(ratio < threshold) for name, threshold in THRESHOLDS.items()},
    }
