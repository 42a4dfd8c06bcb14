"""Mutual information estimated from samples, by scikit-learn's k-nearest-neighbour estimators, on the host.

It stands here and not in `ops`: it is neither jitted nor differentiated, and needs an optional package.
"""

from typing import NamedTuple

import numpy as np


class PolarInformation(NamedTuple):
    """What each bin's two coordinates tell about a target.

    Attributes:
        magnitude: I(|X_f|; target) in nats, [k].
        phase: I(arg X_f; target) in nats, [k].
    """

    magnitude: np.ndarray
    phase: np.ndarray


def neighbor_mutual_information(
    values: np.ndarray, target: np.ndarray, *, num_neighbors: int = 3, seed: int = 0
) -> np.ndarray:
    """Estimates I(values_k; target), each column by itself, from distances to the nearest neighbours.

    A floating-point target is continuous (Kraskov et al.), an integer or boolean one discrete (Ross). The estimate is
    cut off at 0. It falls short where the information is large: N samples can't show more than about log N nats.

    Args:
        values: real, [samples, k].
        target: [samples]: labels or real numbers.
        num_neighbors: of each sample; more give less variance and more bias. Classes of one sample are ignored.
        seed: of the noise, 1e-10 of the deviation, that separates equal values.
    Returns:
        Nats, float64 [k].
    Raises:
        ValueError: if a shape is not as stated, a value is not finite, or there are too few samples.
        ModuleNotFoundError: if scikit-learn is absent; the message says how to install it.
    References:
        Kraskov, Stögbauer, Grassberger, Estimating mutual information, arXiv:cond-mat/0305641.
        Ross, Mutual information between discrete and continuous data sets, PLoS ONE 9(2) (2014).
    """
    values, target = np.asarray(values), np.asarray(target)
    if values.ndim != 2 or target.shape != values.shape[:1]:
        raise ValueError(
            "expected values [samples, k] and a target [samples], got "
            f"{list(values.shape)} and {list(target.shape)}; add an axis with values[:, None]."
        )
    if values.dtype.kind not in "fiu" or target.dtype.kind not in "fiub":
        raise ValueError(
            f"expected real values and a real, integer or boolean target, got {values.dtype} and {target.dtype}; "
            "split complex values with polar_mutual_information."
        )
    for name, array in (("values", values), ("target", target)):
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} must be finite; drop the samples that are not.")
    if not 1 <= num_neighbors < len(target):
        raise ValueError(
            f"num_neighbors must be at least 1 and fewer than the {len(target)} samples, got {num_neighbors}."
        )
    try:
        from sklearn import feature_selection
    except ModuleNotFoundError as absent:
        raise ModuleNotFoundError(
            "the nearest-neighbour estimator is scikit-learn's: pip install scikit-learn."
        ) from absent
    discrete = target.dtype.kind != "f"
    name = "mutual_info_classif" if discrete else "mutual_info_regression"
    estimate = getattr(feature_selection, name)(
        values.astype(np.float64),
        target,
        discrete_features=False,
        n_neighbors=num_neighbors,
        random_state=seed,
    )
    return np.asarray(estimate, np.float64)


def polar_mutual_information(
    spectrum: np.ndarray, target: np.ndarray, *, num_neighbors: int = 3, seed: int = 0
) -> PolarInformation:
    """Estimates what the magnitude and what the phase of each bin tell about a target.

    The phase goes in as an angle in (−π, π]. Cutting the circle open is a bijection, so it changes no information; the
    estimator only misses the neighbours across the cut, as at the end of any interval. Its cosine or its sine alone
    would lose information, and the estimator takes one number at a time.

    Args:
        spectrum: X, complex, [samples, k]. Bins that are real by construction (DC, Nyquist) have a sign for a phase.
        target: [samples], as `neighbor_mutual_information`.
        num_neighbors: of each sample.
        seed: of the noise that separates equal values.
    Returns:
        PolarInformation in nats, each [k].
    Raises:
        ValueError: if spectrum is not complex, or the rest is not as stated.
        ModuleNotFoundError: if scikit-learn is absent.
    """
    spectrum = np.asarray(spectrum)
    if spectrum.dtype.kind != "c":
        raise ValueError(f"spectrum must be complex, got {spectrum.dtype}; pass rfft of a signal.")
    options = {"num_neighbors": num_neighbors, "seed": seed}
    return PolarInformation(
        neighbor_mutual_information(np.abs(spectrum), target, **options),
        neighbor_mutual_information(np.angle(spectrum), target, **options),
    )
